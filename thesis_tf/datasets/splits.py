"""Training, validation and test examples as NumPy arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.datasets.values import ValueRange

SPLIT_NAMES = ("train", "validation", "test")
# The names of splits in files, folders and other libraries, in any letter case.
SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {spelling: split for split, known in SPELLINGS.items() for spelling in known}


def split_of(name: str) -> str | None:
    """Returns which split a name such as "Val" or "testing" means, None if it is none's."""
    return _SPLIT_OF.get(name.lower())


# Arrays have no single truth value, so the generated `==` could only fail.
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples `x` of shape (n, ...) and their class numbers `y`, int64 of shape (n,).

    Example i is row `rows[i]` of the `source_rows` rows in the source's split `source` ("train"
    also for validation examples that were held out of it); None where that isn't known.
    `source_names[r]` is the name of the file of row r, relative to the data set's folder; None for
    other sources than folders. `len(split)` is n.
    """

    x: Array
    y: Array
    _: dataclasses.KW_ONLY
    source: str | None = None
    rows: Array | None = None
    source_rows: int | None = None
    source_names: tuple[str, ...] | None = None

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

    @property
    def names(self) -> tuple[str, ...] | None:
        """The name of each example's file, relative to the data set's folder, None if unknown."""
        if self.source_names is None or self.rows is None:
            return None
        return tuple(self.source_names[row] for row in self.rows)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """A data set: its three splits, the names of its classes and its name.

    Label i belongs to `class_names[i]`. The three splits share the shape and dtype of an example.
    `values` is the range of the stored values, None if unknown, and `notes` are phrases about what
    was read and what was left out.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    name: str
    _: dataclasses.KW_ONLY
    values: ValueRange | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Returns the name, and the numbers of examples and classes."""
        sizes = ", ".join(f"{name}: {len(getattr(self, name))}" for name in SPLIT_NAMES)
        return f"Splits({self.name!r}, {sizes}, {self.num_classes} classes)"

    @property
    def num_classes(self) -> int:
        """The number of classes, including those without examples."""
        return len(self.class_names)

    @property
    def names(self) -> dict[str, tuple[str, ...]] | None:
        """{split: the name of each example's file}, for a folder of images; otherwise None."""
        found = {name: getattr(self, name).names for name in SPLIT_NAMES}
        return None if None in found.values() else found

    @functools.cached_property
    def repeated(self) -> dict[str, int]:
        """How many validation and test examples have exactly the values of a training example."""
        parts = {name: getattr(self, name).x for name in SPLIT_NAMES}
        seen = {example.tobytes() for example in parts["train"]}
        return {
            name: sum(example.tobytes() in seen for example in parts[name])
            for name in ("validation", "test")
        }

    def summary(self) -> dict[str, Any]:
        """Returns what was read, with plain values: numbers of examples, classes, values, notes."""
        parts = {name: getattr(self, name) for name in SPLIT_NAMES}
        found: dict[str, Any] = {
            "name": self.name,
            "examples": {name: len(part) for name, part in parts.items()},
            "sources": {name: part.source for name, part in parts.items()},
            "shape": list(self.train.x.shape[1:]),
            "dtype": self.train.x.dtype.name,
            "values": None if self.values is None else [self.values.low, self.values.high],
            "pixels": None if self.values is None else self.values.pixels,
            "repeated": self.repeated,
            "notes": list(self.notes),
        }
        if self.class_names:
            found["classes"] = {
                name: np.bincount(part.y, minlength=self.num_classes).tolist()
                for name, part in parts.items()
            }
            found["class_names"] = list(self.class_names)
        return found

    def describe(self) -> str:
        """Returns one line about what was read: numbers, classes, the range of values, notes."""
        sizes = []
        for name in SPLIT_NAMES:
            part = getattr(self, name)
            drawn = "" if part.source in (None, name) else f" (of the source's {part.source})"
            sizes.append(f"{len(part):,} {name}{drawn}")
        said = [f"{self.name}: {', '.join(sizes)} of shape {self.train.x.shape[1:]}"]
        if self.class_names:
            counts = np.bincount(self.train.y, minlength=self.num_classes)
            said.append(
                f"{self.num_classes} classes of {counts.min():,} to {counts.max():,} training"
                " examples"
            )
            if empty := np.flatnonzero(counts == 0).tolist():
                names = _several([self.class_names[number] for number in empty])
                said.append(f"no training examples of {names}")
        if self.values is not None:
            what = "no pixels"
            if self.values.pixels is not None:
                what = "pixels from {:g} (black) to {:g} (white)".format(*self.values.pixels)
                what += ", scaled to [0, 1]" if self.values.in_unit else ""
            elif not self.values.told_apart:
                what = "which may be pixels or not"
            said.append(f"values {self.values}, {what}")
        said += [
            f"{number:,} {name} examples are training examples, too"
            for name, number in self.repeated.items()
            if number
        ]
        return "; ".join([*said, *self.notes]) + "."

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

    def gather_by_name(self, values: Mapping[str, Any]) -> Array:
        """Returns other values of the same examples, by the names of their files.

        Args:
            values: {name: value} of every file of these examples, with names as in `names`. Files
                of the source that aren't among the examples may have values, too.

        Returns:
            An array (n,), in the order of `stacked`.

        Raises:
            ValueError: the data set isn't a folder, a file has no value, or a name is no file's.
        """
        names = self.names
        if names is None:
            raise checks.invalid(
                "The data set",
                "a folder, whose examples have names of files",
                self.name,
                "Give values in the order of the source, to `gather`.",
            )
        ours = [name for split_name in SPLIT_NAMES for name in names[split_name]]
        sources = (getattr(self, split_name).source_names for split_name in SPLIT_NAMES)
        known = {name for source in sources for name in source}
        missing = [name for name in ours if name not in values]
        unknown = [name for name in values if name not in known]
        for found, what in ((missing, "none of them"), (unknown, "of which no image has")):
            if found:
                raise checks.invalid(
                    "`values`",
                    f"given for the files of {self.name} by their paths in its folder, such as"
                    f" {ours[0]}",
                    f"{len(values)} names, {what} {_several(found)}",
                )
        return np.asarray([values[name] for name in ours])


def _several(names: list[str]) -> str:
    """Returns the first names, and how many there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
