"""Data sets as NumPy arrays: names, archives and folders to train, validation and test.

    from thesis_tf import datasets

    splits = datasets.load("mnist_mini")
    splits.train.x.shape  # (8100, 28, 28, 1), uint8

Importing this package, and loading an archive, imports no TensorFlow.
"""

from thesis_tf.datasets.inputs import INPUT_NAMES, has_labels, load_inputs
from thesis_tf.datasets.registry import NAMES, load
from thesis_tf.datasets.splits import Split, Splits
from thesis_tf.datasets.synthetic import CurveMixture, manifold10d, spiral

__all__ = [
    "INPUT_NAMES",
    "NAMES",
    "CurveMixture",
    "Split",
    "Splits",
    "has_labels",
    "load",
    "load_inputs",
    "manifold10d",
    "spiral",
]
