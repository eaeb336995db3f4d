"""Training, validation and test examples as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, ArrayLike

SPLIT_NAMES = ("train", "validation", "test")
# The names of splits in files, folders and other libraries.
SPELLINGS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


# Arrays have no single truth value, so the generated `==` could only fail.
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples `x` of shape (n, ...) and their class numbers `y`, int64 of shape (n,).

    Example i is row `rows[i]` of the `source_rows` rows in the source's split `source` ("train"
    also for validation examples that were held out of it); None where that isn't known.
    `len(split)` is n.
    """

    x: Array
    y: Array
    _: dataclasses.KW_ONLY
    source: str | None = None
    rows: Array | None = None
    source_rows: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless there is one label per example."""
        if len(self.x) != len(self.y):
            raise checks.invalid(
                "`y`", f"as long as `x`, {len(self.x)} examples", f"{len(self.y)} labels"
            )

    def __repr__(self) -> str:
        """Returns the number of examples, their shape and dtype."""
        return f"Split({len(self)} examples {self.x.shape[1:]} {self.x.dtype})"

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.y)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """A data set: its three splits, the names of its classes and its name.

    Label i belongs to `class_names[i]`. The three splits share the shape and dtype of an example.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    name: str

    def __repr__(self) -> str:
        """Returns the name, and the numbers of examples and classes."""
        sizes = ", ".join(f"{name}: {len(getattr(self, name))}" for name in SPLIT_NAMES)
        return f"Splits({self.name!r}, {sizes}, {self.num_classes} classes)"

    @property
    def num_classes(self) -> int:
        """The number of classes, including those without examples."""
        return len(self.class_names)

    def take(
        self,
        *,
        train: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        seed: int = 0,
    ) -> Splits:
        """Returns a data set with a random subset of each split, without replacement.

        With the same `seed`, a smaller subset is a prefix of a larger one. Subsets of different
        splits are independent.

        Args:
            train: the number of training examples; None for all.
            validation: the number of validation examples; None for all.
            test: the number of test examples; None for all.
            seed: a non-negative integer.

        Returns:
            Splits, whose arrays are copies if a number was given.

        Raises:
            TypeError: if a number is not an integer.
            ValueError: if a number is below 1 or above the size of the split.
        """
        seed = seeds.checked_seed(seed)
        chosen = {}
        for stream, (split_name, count) in enumerate(
            zip(SPLIT_NAMES, (train, validation, test), strict=True)
        ):
            if count is None:
                continue
            split = getattr(self, split_name)
            count = checks.positive_integer(f"`{split_name}`", count)
            if count > len(split):
                raise checks.invalid(
                    f"`{split_name}`",
                    f"at most {len(split)}, the {split_name} examples of {self.name}",
                    count,
                )
            rows = seeds.generator(seed, "take", stream).permutation(len(split))[:count]
            origin = None if split.rows is None else split.rows[rows]
            chosen[split_name] = dataclasses.replace(
                split, x=split.x[rows], y=split.y[rows], rows=origin
            )
        return dataclasses.replace(self, **chosen)

    def stacked(self) -> tuple[Array, Array, dict[str, slice]]:
        """Returns all splits as one array, for tools that number all examples consecutively.

        Returns:
            A tuple (x, y, slices): x of shape (n, ...) and y of shape (n,) are copies of train,
            validation and test in this order; `slices` is a dict from "train", "validation" and
            "test" to their slices.
        """
        parts = [getattr(self, split_name) for split_name in SPLIT_NAMES]
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        slices = dict(zip(SPLIT_NAMES, map(slice, ends[:-1], ends[1:]), strict=True))
        x = np.concatenate([part.x for part in parts])
        y = np.concatenate([part.y for part in parts])
        return x, y, slices

    def gather(self, values: Mapping[str, ArrayLike]) -> Array:
        """Returns other values of the same examples, in the order of `stacked`.

        Args:
            values: a dict from the source's splits ("train", and "validation" and "test" if the
                source has them) to arrays with one value per row, in the source's order.

        Returns:
            An array (n, ...).

        Raises:
            ValueError: the values of a split are missing, or their number is not that of its rows.
        """
        parts = []
        for split_name in SPLIT_NAMES:
            split = getattr(self, split_name)
            if split.source is None or split.rows is None or split.source not in values:
                raise checks.invalid(
                    "`values`", f"given for the source's {split.source} examples", sorted(values)
                )
            given = np.asarray(values[split.source])
            if len(given) != split.source_rows:
                raise checks.invalid(
                    f"`values` of {split.source}",
                    f"{split.source_rows}, one for each {split.source} example of {self.name}",
                    len(given),
                )
            parts.append(given[split.rows])
        return np.concatenate(parts)
