"""Examples with labels, taken by their numbers."""

import numpy as np
import tensorflow as tf

from thesis_tf import _checks, _fingerprint


class Examples:
    """What draws are made of: anything that gives rows for an array of row numbers.

    Args:
        x: inputs: an array (N, ...), a memory map, or whatever has a length and gives rows for
            `x[integers (n,)]`. Lists and tensors become arrays.
        y: labels, likewise, as many.
    """

    def __init__(self, x, y):
        for name, rows in (("`x`", x), ("`y`", y)):
            if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
                raise _checks.invalid(
                    name, "an array, or an object with a length and rows", repr(rows)[:80], None,
                    TypeError,
                )  # fmt: skip
        self.x, self.y = map(_rows, (x, y))
        if len(x) != len(y) or not len(x):
            raise _checks.invalid("`x` and `y`", "of one length, above 0", f"{len(x)}, {len(y)}")

    def __len__(self):
        """Returns the number of examples."""
        return len(self.y)

    def take(self, rows):
        """Returns (x, y) of an integer array of row numbers, or of a slice."""
        return _at(self.x, rows), _at(self.y, rows)

    def fingerprint(self):
        """A hash of shapes, dtypes and values; of what is no array, of its first 64 rows."""
        few = slice(0, 64)
        pair = [v if isinstance(v, np.ndarray) else _at(v, few) for v in (self.x, self.y)]
        return _fingerprint.of_arrays([np.asarray(v) for v in pair])


def _rows(values):
    # A tensor takes no array of row numbers.
    return (
        np.asarray(values) if isinstance(values, (list, tuple)) or tf.is_tensor(values) else values
    )


def _at(values, rows):
    if isinstance(rows, slice) and not isinstance(values, np.ndarray):
        rows = np.arange(len(values))[rows]
    return values[rows]


def by_split(data):
    """Returns {split: `Examples`} of {split: (x, y)}, which must have "train"; raises otherwise."""
    if not isinstance(data, dict) or "train" not in data:
        raise _checks.invalid(
            "`data`",
            'a dict from split to (x, y) that has "train"',
            sorted(data) if isinstance(data, dict) else type(data).__name__,
        )
    return {
        name: pair if isinstance(pair, Examples) else Examples(*pair)
        for name, pair in data.items()
        if pair is not None
    }
