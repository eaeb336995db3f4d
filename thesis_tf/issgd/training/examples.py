"""Examples with labels, which are read by their row numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf.persistence import fingerprint

_HASHED = 256  # the rows of an object that are hashed


class Examples:
    """Inputs and labels from which rows can be read.

    Args:
        x: inputs: an array (N, ...), a memory map, or an object with a length that returns rows for
            `x[integers (n,)]`; or a dict, list or tuple of these, for models of several inputs.
            Lists of numbers, tensors, and tables and columns of pandas become arrays.
        y: labels (N, ...), likewise.
        sample_weight: weights of the examples (N,), or of the losses (N, ...), likewise; None for
            ones. With them `y` is a `WeightedLabels`.
    """

    def __init__(self, x: Any, y: Any, *, sample_weight: Any = None) -> None:
        self.x, self.y = _rows("`x`", x), _rows("`y`", y)
        if sample_weight is not None:
            self.y = WeightedLabels(self.y, _rows("`sample_weight`", sample_weight))
        lengths = [len(leaf) for leaf in self._leaves()]
        if len(set(lengths)) != 1 or not lengths[0]:
            raise checks.invalid(
                "`x` and `y`",
                "of one length, above 0",
                ", ".join(map(str, lengths)) or "nothing",
            )
        self._length = lengths[0]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return self._length

    def take(self, rows: Array | slice) -> tuple[Any, Any]:
        """Returns (x, y) for an integer array of row numbers, or for a slice."""
        return keras.tree.map_structure(lambda leaf: _at(leaf, rows), (self.x, self.y))

    def inputs_for(self, model: keras.Model) -> Any:
        """Returns an example of the inputs for building a model; None if it is built."""
        return None if model.built else self.take(slice(0, 1))[0]

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Yields (x, y) of all rows, in order."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def fingerprint(self) -> str:
        """Returns a hash of shapes, dtypes and values.

        Of objects that aren't arrays, 256 evenly spaced rows are read, the first and the last among
        them.
        """
        few = np.unique(np.linspace(0, len(self) - 1, _HASHED).astype(int))
        leaves = [v if isinstance(v, np.ndarray) else _at(v, few) for v in self._leaves()]
        return fingerprint.of_arrays([np.asarray(v) for v in leaves])

    def _leaves(self) -> list[Any]:
        return keras.tree.flatten((self.x, self.y))


def _rows(name: str, values: Any) -> Any:
    """Returns an object that rows can be read from, or a dict or tuple of these."""
    if isinstance(values, dict):
        return {key: _rows(f"{name}[{key!r}]", value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        # As in Keras, arrays in a list are several inputs.
        if values and all(map(_gives_rows, values)):
            return tuple(_rows(f"{name}[{i}]", value) for i, value in enumerate(values))
        return np.asarray(values)
    if hasattr(values, "iloc") and hasattr(values, "to_numpy"):
        # A table or a column of pandas is indexed by the names of columns or rows.
        return values.to_numpy()
    if tf.is_tensor(values):  # it can't be indexed by an array of row numbers
        return np.asarray(values)
    if not _gives_rows(values):
        expected = "an array, or an object with a length and rows, or a dict or list of such"
        raise checks.invalid(name, expected, repr(values)[:80], kind=TypeError)
    return values


def _gives_rows(values: Any) -> bool:
    if isinstance(values, (list, tuple, str, bytes)) or not len(getattr(values, "shape", "?")):
        return False
    return hasattr(values, "__len__") and hasattr(values, "__getitem__")


def _at(values: Any, rows: Array | slice) -> Any:
    if isinstance(rows, slice) and not isinstance(values, np.ndarray):
        rows = np.arange(len(values))[rows]
    return values[rows]


def _of_parts(x: Any, y: Any, sample_weight: Any = None) -> Examples:
    return Examples(x, y, sample_weight=sample_weight)


def by_split(data: Mapping[str, Any]) -> dict[str, Examples]:
    """Returns {split: `Examples`} for {split: (x, y) or (x, y, sample_weight)}."""
    if not isinstance(data, dict) or "train" not in data:
        raise checks.invalid(
            "`data`",
            'a dict from split to (x, y) or (x, y, sample_weight) that has "train"',
            sorted(data) if isinstance(data, dict) else type(data).__name__,
        )
    return {
        name: pair if isinstance(pair, Examples) else _of_parts(*pair)
        for name, pair in data.items()
        if pair is not None
    }
