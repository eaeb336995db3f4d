"""Training, validation and test examples as NumPy arrays."""

import dataclasses

import numpy as np

from thesis_tf._core import checks, seeds

SPLIT_NAMES = ("train", "validation", "test")
# How files, folders and other libraries may call a split.
SPELLINGS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


# Arrays have no single truth value, so the generated `==` could only fail.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples `x` of shape (n, ...) and their class numbers `y`, int64 of shape (n,).

    Example i is row `rows[i]` of `source_rows` in the source's split `source` ("train" also for
    validation examples that were held out of it), None where that isn't known. `len(split)` is n.
    """

    x: np.ndarray
    y: np.ndarray
    source: str | None = None
    rows: np.ndarray | None = None
    source_rows: int | None = None

    def __post_init__(self):
        """Raises ValueError unless there is a label an example."""
        if len(self.x) != len(self.y):
            raise checks.invalid(
                "`y`", f"as long as `x`, {len(self.x)} examples", f"{len(self.y)} labels"
            )

    def __len__(self):
        """Returns the number of examples."""
        return len(self.y)


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set: its three splits, the names of its classes and its own name.

    Label i belongs to `class_names[i]`. The three splits share the shape and dtype of an example.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    name: str

    @property
    def num_classes(self):
        """The number of classes, those that no example has included."""
        return len(self.class_names)

    def take(self, train=None, validation=None, test=None, seed=0):
        """Returns a data set with a random subset of each split, without replacement.

        For one `seed` a smaller subset is the beginning of a larger one, so a curve over sizes
        adds examples and never swaps them; what is taken of one split has no influence on the
        others.

        Args:
            train: how many training examples to take; None leaves the split as it is.
            validation: likewise of the validation split.
            test: likewise of the test split.
            seed: a non-negative integer.

        Returns:
            Splits, whose arrays are copies where a number was given.

        Raises:
            TypeError: if a number is not an integer.
            ValueError: if a number is below 1 or above what there is.
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

    def stacked(self):
        """Returns the splits end to end, for what numbers all examples in one sequence.

        Returns:
            A tuple (x, y, slices): x of shape (n, ...) and y of shape (n,) hold train,
            validation and test in that order, copied; `slices` maps each of "train", "validation"
            and "test" to its slice of them.
        """
        parts = [getattr(self, split_name) for split_name in SPLIT_NAMES]
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        slices = dict(zip(SPLIT_NAMES, map(slice, ends[:-1], ends[1:]), strict=True))
        x = np.concatenate([part.x for part in parts])
        y = np.concatenate([part.y for part in parts])
        return x, y, slices

    def gather(self, values):
        """Returns other values of the same examples, in the order of `stacked`.

        Args:
            values: a dict from the source's splits ("train", and "validation" and "test" if the
                source has them) to an array with a value for each of its rows, in the source's
                order.

        Returns:
            An array (n, ...).

        Raises:
            ValueError: if a split's values are missing or are not as many as its rows.
        """
        parts = []
        for split_name in SPLIT_NAMES:
            split = getattr(self, split_name)
            if split.source not in values:
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
