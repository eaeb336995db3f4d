"""Data sets in NumPy's .npz archives, including the bundled `mnist_mini`."""

from __future__ import annotations

import importlib.resources
import pathlib
from collections.abc import Sequence

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf.datasets.assemble import Source
from thesis_tf.datasets.splits import SPELLINGS, SPLIT_NAMES
from thesis_tf.persistence import arrays as npz

# {name of an array in a file: its name here}; `x_val` and `x_valid` are `x_validation`.
ARRAYS = {
    f"{array}_{spelling}": f"{array}_{split}"
    for split, spellings in SPELLINGS.items()
    for spelling in spellings
    for array in "xy"
}


def read_bundled(name: str) -> Source:
    """Reads the archive of this name that comes with the package."""
    resource = importlib.resources.files("thesis_tf.datasets").joinpath(f"{name}.npz")
    with importlib.resources.as_file(resource) as path:
        return read(path)


def read_inputs(path: pathlib.Path) -> dict[str, Array]:
    """Reads the examples of an archive without their labels.

    It holds `x` or `x_train`, and may hold `x_validation` (or `x_valid` or `x_val`) and `x_test`;
    labels and other arrays are ignored.

    Returns:
        {split: array}.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, is damaged, or holds Python objects or no examples.
    """
    stored = _stored(path)
    names = {
        array.removeprefix("x_"): name
        for array, name in _names(path, stored).items()
        if array.startswith("x_")
    }
    if "train" not in names and "x" in stored:
        names["train"] = "x"
    if "train" not in names:
        raise checks.invalid(
            f"The arrays in {path}",
            "x or x_train, and optionally x_validation and x_test",
            ", ".join(stored) or "no arrays",
            "Save it as np.savez(path, x=examples).",
        )
    arrays = npz.load(path, names=names.values())
    return {split: arrays[name] for split, name in names.items()}


def has_labels(path: pathlib.Path) -> bool:
    """Returns whether an archive has labels of its training examples, `y_train`.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, or is damaged.
    """
    return "y_train" in _stored(path)


def read(path: pathlib.Path) -> Source:
    """Reads an archive.

    It holds `x_train` and `y_train`, and may hold `x_validation` and `y_validation` (or `valid` or
    `val` in place of `validation`), `x_test` and `y_test`, and `class_names`, an array of strings
    of shape (number of classes,). Nothing is unpickled.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, is damaged, holds Python objects, or lacks an array.
    """
    stored = _stored(path)
    _check_names(path, stored)
    found = _names(path, stored)
    wanted = [*found.values(), *(name for name in stored if name == "class_names")]
    arrays = npz.load(path, names=wanted)
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise checks.invalid(
            f"`class_names` in {path}",
            "an array of strings, shape (number of classes,)",
            f"dtype {names.dtype}, shape {names.shape}",
        )
    splits = {
        split: (arrays[found[f"x_{split}"]], arrays[found[f"y_{split}"]])
        for split in SPLIT_NAMES
        if f"x_{split}" in found
    }
    return Source(class_names=None if names is None else names.tolist(), **splits)


def _stored(path: pathlib.Path) -> list[str]:
    """Returns the names of the arrays in a file; raises if it doesn't exist or isn't an archive."""
    if not path.is_file():
        raise checks.invalid("The data set", "an existing file", path, kind=FileNotFoundError)
    return npz.names(path)


def _check_names(path: pathlib.Path, names: Sequence[str]) -> None:
    """Raises unless the arrays come in pairs and include `x_train` and `y_train`."""
    split_like = {name for name in names if name.startswith(("x_", "y_"))}
    partners = {("y" if name[0] == "x" else "x") + name[1:] for name in split_like}
    required = {"x_train", "y_train"} | split_like | partners
    missing = sorted(required - split_like)
    # If an x_dev were silently ignored, it would be replaced by examples from x_train.
    unknown = sorted(required - set(ARRAYS))
    if missing or unknown:
        raise checks.invalid(
            f"The arrays in {path}",
            "x_train and y_train, and as pairs x_validation and y_validation, x_test and y_test",
            ", ".join(names) or "no arrays",
            f"Missing: {', '.join(missing)}." if missing else f"Unknown: {', '.join(unknown)}.",
        )


def _names(path: pathlib.Path, names: Sequence[str]) -> dict[str, str]:
    """Returns {name of an array here: its name in the file}; raises if a split occurs twice."""
    found: dict[str, str] = {}
    for name in names:
        array = ARRAYS.get(name)
        if array in found:
            raise checks.invalid(
                f"The arrays in {path}", f"one {array}", f"{found[array]} and {name}"
            )
        if array is not None:
            found[array] = name
    return found
