"""Labels from targets of all kinds."""

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.probes import targets

NONE = -7  # stands for a label that isn't valid
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]

# {name: (targets, labels)}, for 4 classes.
CASES = {
    **{f"{dtype}": (np.array([0, 3, 1, 4]), [0, 3, 1, NONE], dtype) for dtype in WHOLE + FLOATS},
    "from 1": ([1, 2, 3, 4], [1, 2, 3, NONE], "int32"),
    "ignored by -1": ([-1, 2, -100, 0], [NONE, 2, NONE, 0], "int64"),
    "ignored by 255": ([255, 2, 254, 0], [NONE, 2, NONE, 0], "uint8"),
    "1 in 32 bits": ([2**32 + 1, -(2**32) + 1, 2**63 - 1, 1], [NONE, NONE, NONE, 1], "int64"),
    "beyond int64": (
        np.array([2**63 + 1, 2**64 - 1, 0, 1], "uint64"),
        [NONE, NONE, 0, 1],
        "uint64",
    ),
    "no whole numbers": ([0.5, np.nan, np.inf, -0.0], [NONE, NONE, NONE, 0], "float32"),
    "beyond float32's whole numbers": (
        [2.0**40, 3.0, 1e30, -1e30],
        [NONE, 3, NONE, NONE],
        "float32",
    ),
    "booleans": ([True, False, True, True], [1, 0, 1, 1], "bool"),
    "(n, 1)": ([[3], [-1], [0], [1]], [3, NONE, 0, 1], "int32"),
    "one-hot": (np.eye(4)[[2, 0, 3]], [2, 0, 3], "float32"),
    "one-hot booleans": (np.eye(4)[[2, 0, 3]], [2, 0, 3], "bool"),
    "one-hot bytes": (np.eye(4)[[2, 0, 3]], [2, 0, 3], "uint8"),
    "smoothed": (0.9 * np.eye(4)[[2, 0]] + 0.025, [2, 0], "float32"),
    "no class and two classes": (
        [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0]],
        [NONE, NONE, 1],
        "int32",
    ),
    "no probabilities": (
        [[3, -1, -1, 0], [np.nan, 0, 0, 1], [0, 0, 1, 0]],
        [NONE, NONE, 2],
        "float32",
    ),
    "no examples": (np.zeros(0), [], "int64"),
    "not contiguous": (np.arange(8)[::-2], [NONE, NONE, 3, 1], "int64"),
    "big-endian": (np.array([0, 3, 1, 9], ">i8"), [0, 3, 1, NONE], None),
}


@pytest.mark.parametrize("name", CASES)
def test_labels(name):
    given, wanted, dtype = CASES[name]
    given = np.asarray(given)
    if dtype is None:
        given = given.astype(given.dtype.newbyteorder("="))  # as Keras does
    else:
        given = given.astype(tf.as_dtype(dtype).as_numpy_dtype)
    tensor, place = targets.select(tf.constant(given), None, 4)
    labels, valid = targets.integers(tensor, 4)
    assert np.where(valid, labels, NONE).tolist() == wanted
    assert labels.dtype == tf.int32
    assert ((labels.numpy() >= 0) & (labels.numpy() < 4)).all()
    assert place.one_hot == (given.ndim == 2 and given.shape[1] == 4)


@pytest.mark.parametrize(
    ("y", "labels", "error", "match"),
    [
        (np.zeros((5, 7)), None, ValueError, r"one-hot, \(n, 4\). Received: \(5, 7\)"),
        (np.zeros((5, 3, 4)), None, ValueError, "Pass `labels`, a function from the targets"),
        (np.array(["a", "b"]), None, TypeError, "must be numbers. Received: string"),
        (np.zeros(5), lambda y: y[:, None] * np.ones(2), ValueError, r"Received: \(5, 2\)"),
    ],
)
def test_targets_that_are_no_labels(y, labels, error, match):
    with pytest.raises(error, match=match):
        targets.select(tf.constant(y), labels, 4)
