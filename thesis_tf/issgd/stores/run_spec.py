"""The description of a run, which its processes compare before they exchange data."""

import dataclasses
import json
import operator
import re
from typing import Any, SupportsIndex

from thesis_tf._core import checks
from thesis_tf.issgd.stores import errors

FORMAT = 1
# Fields whose values people can't read, and what a different value means.
_HASHES = {
    "model": "another network or loss",
    "data": "other examples or labels, or in another order",
}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def check_name(what: str, name: Any) -> str:
    """Returns `name` if it can be part of a key and of a file's name; raises otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or set(name) == {"."}:
        raise checks.invalid(
            what, "1 to 100 of the characters A-Z, a-z, 0-9, '.', '_' and '-'", repr(name)
        )
    return name


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """The model, the data and the sizes of a run.

    Attributes:
        model: a fingerprint of the model.
        data: a fingerprint of the data.
        splits: (name, number of examples) pairs.
        parameter_bytes: the size of all parameters together.
        block_size: examples per block; the last block of a split may have fewer.
        format: the version of the storage format.

    Raises:
        ValueError, TypeError: a value is invalid.
    """

    model: str
    data: str
    splits: tuple[tuple[str, int], ...]
    parameter_bytes: int
    _: dataclasses.KW_ONLY
    block_size: int = 2048
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Checks the values."""
        for field in ("model", "data"):
            if not isinstance(getattr(self, field), str):
                raise checks.invalid(
                    f"`{field}`", "a string", repr(getattr(self, field)), kind=TypeError
                )
        for field in ("parameter_bytes", "block_size", "format"):
            number = checks.positive_integer(f"`{field}`", getattr(self, field))
            object.__setattr__(self, field, number)
        try:
            pairs = tuple(
                (
                    check_name("The name of a split", pair[0]),
                    checks.positive_integer(f"The number of examples of {pair[0]!r}", pair[1]),
                )
                for pair in self.splits
            )
        except TypeError:
            raise checks.invalid(
                "`splits`", "(name, number of examples) pairs", repr(self.splits), kind=TypeError
            ) from None
        if not pairs or len(dict(pairs)) < len(pairs):
            raise checks.invalid("`splits`", "one or more splits of different names", pairs)
        object.__setattr__(self, "splits", pairs)

    def to_json(self) -> str:
        """Returns the spec as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Returns the spec from the result of `to_json`; raises `RunMismatchError` for others."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise errors.RunMismatchError(
                    f"The run was made in format {value['format']}, this program writes format"
                    f" {FORMAT}: use the same version of thesis_tf everywhere, or another run id."
                )
            return cls(**{**value, "splits": tuple(map(tuple, value["splits"]))})
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, errors.StoreError):
                raise
            raise errors.StoreError(
                f"The store holds an invalid description of the run ({error})."
            ) from None

    def examples(self, split: str) -> int:
        """Returns the number of examples of a split; raises ValueError for an unknown split."""
        return dict(self.splits)[checks.one_of("`split`", split, dict(self.splits))]

    def num_blocks(self, split: str) -> int:
        """Returns the number of blocks of a split."""
        return -(-self.examples(split) // self.block_size)

    def block_range(self, split: str, block: int) -> tuple[int, int]:
        """Returns (start, stop), the examples of a block."""
        block = self.check_block(split, block)
        start = block * self.block_size
        return start, min(start + self.block_size, self.examples(split))

    def check_block(self, split: str, block: SupportsIndex) -> int:
        """Returns `block` as an int if the split has it; raises ValueError otherwise."""
        block, count = operator.index(block), self.num_blocks(split)
        if not 0 <= block < count:
            raise checks.invalid("`block`", f"in [0, {count}), a block of {split!r}", block)
        return block

    def check_same(self, theirs: "RunSpec", where: str) -> None:
        """Raises a `RunMismatchError` that lists how the existing run's spec differs."""
        fields = [field.name for field in dataclasses.fields(self)]
        different = [
            f"{name}: {_HASHES.get(name) or f'{getattr(theirs, name)!r} there, {mine!r} here'}"
            for name in fields
            if (mine := getattr(self, name)) != getattr(theirs, name)
        ]
        if different:
            raise errors.RunMismatchError(
                f"{where} was created with other settings ({'; '.join(different)}). Use the same"
                " model, data and sizes in all processes, or choose another run id."
            )
