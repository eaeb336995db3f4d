"""Data sets in NumPy's .npz archives, including the bundled `mnist_mini`."""

from __future__ import annotations

import contextlib
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from thesis_tf._core import checks
from thesis_tf.datasets.assemble import Source
from thesis_tf.datasets.splits import SPLIT_NAMES, split_of
from thesis_tf.persistence import arrays as npz

_WANTED = (
    "x_train and y_train, and as pairs x_validation and y_validation, x_test and y_test (or valid,"
    " val, dev, eval in place of validation, training, testing)"
)


def read_bundled(name: str) -> Source:
    """Reads the archive of this name that comes with the package."""
    resource = importlib.resources.files("thesis_tf.datasets").joinpath(f"{name}.npz")
    with importlib.resources.as_file(resource) as path:
        return read(path)


def read_inputs(path: pathlib.Path) -> Source:
    """Reads the examples of an archive, which need no labels.

    It holds `x` or `x_train`, and may hold validation and test examples, named as for `read`.
    Labels of the training examples only determine which are held out; other arrays are ignored.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, is damaged, holds Python objects or no examples, or
            has examples of an unknown split.
    """
    stored = _stored(path)
    names = _names(path, stored)
    examples = {split: names[f"x_{split}"] for split in SPLIT_NAMES if f"x_{split}" in names}
    unknown = [name for name in stored if name.lower().startswith("x_") and not _here(name)]
    if "train" not in examples or unknown:
        raise checks.invalid(
            f"The arrays in {path}",
            "x or x_train, and optionally x_validation and x_test",
            ", ".join(stored) or "no arrays",
            f"Unknown: {', '.join(unknown)}." if unknown else "Save it as np.savez(path, x=x).",
        )
    arrays = npz.load(path, names=examples.values())
    found: dict[str, Any] = {split: (arrays[name], None) for split, name in examples.items()}
    if "y_train" in names:
        # Labels that can't be read, such as pickled ones, don't matter here.
        with contextlib.suppress(ValueError):
            y = npz.load(path, names=[names["y_train"]])[names["y_train"]]
            found["train"] = (found["train"][0], y)
    return Source(**found)


def has_labels(path: pathlib.Path) -> bool:
    """Returns whether an archive has labels of its training examples, `y_train` or `y`.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, or is damaged.
    """
    return "y_train" in _names(path, _stored(path))


def read(path: pathlib.Path) -> Source:
    """Reads an archive.

    It holds `x_train` and `y_train` (or `x` and `y`), and may hold `x_validation` and
    `y_validation`, `x_test` and `y_test`, with any of the `SPELLINGS` of a split, in any letter
    case, and `class_names`, an array of strings of shape (number of classes,). Nothing is
    unpickled.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file isn't an archive, is damaged, holds Python objects, or lacks an array.
    """
    stored = _stored(path)
    found = _names(path, stored)
    _check_names(path, stored, found)
    wanted = [*found.values(), *(name for name in stored if name == "class_names")]
    arrays = npz.load(path, names=wanted)
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise checks.invalid(
            f"`class_names` in {path}",
            "an array of strings, shape (number of classes,)",
            f"dtype {names.dtype}, shape {names.shape}",
        )
    splits: dict[str, Any] = {
        split: (arrays[found[f"x_{split}"]], arrays[found[f"y_{split}"]])
        for split in SPLIT_NAMES
        if f"x_{split}" in found
    }
    left_out = [name for name in stored if name not in wanted]
    notes = (f"left out the arrays {', '.join(left_out)}",) if left_out else ()
    return Source(class_names=None if names is None else names.tolist(), notes=notes, **splits)


def _stored(path: pathlib.Path) -> list[str]:
    """Returns the names of the arrays in a file; raises if it doesn't exist or isn't an archive."""
    if not path.is_file():
        raise checks.invalid("The data set", "an existing file", path, kind=FileNotFoundError)
    return npz.names(path)


def _check_names(path: pathlib.Path, names: Sequence[str], found: Mapping[str, str]) -> None:
    """Raises unless the arrays come in pairs and include `x_train` and `y_train`."""
    partners = {("y" if name[0] == "x" else "x") + name[1:] for name in found}
    missing = sorted(({"x_train", "y_train"} | partners) - set(found))
    # If an x_holdout were silently ignored, it would be replaced by examples from x_train.
    unknown = [name for name in names if name.lower().startswith(("x_", "y_")) and not _here(name)]
    if missing or unknown:
        raise checks.invalid(
            f"The arrays in {path}",
            _WANTED,
            ", ".join(names) or "no arrays",
            f"Unknown: {', '.join(unknown)}." if unknown else f"Missing: {', '.join(missing)}.",
        )


def _here(name: str) -> str | None:
    """Returns the name here, such as "x_train", of an array "x", "X_Train" or "x_training"."""
    array, underscore, spelling = name.partition("_")
    split = split_of(spelling) if underscore else "train"
    return f"{array.lower()}_{split}" if array.lower() in ("x", "y") and split else None


def _names(path: pathlib.Path, names: Sequence[str]) -> dict[str, str]:
    """Returns {name of an array here: its name in the file}; raises if a split occurs twice."""
    found: dict[str, str] = {}
    for name in names:
        array = _here(name)
        if array in found:
            raise checks.invalid(
                f"The arrays in {path}", f"one {array}", f"{found[array]} and {name}"
            )
        if array is not None:
            found[array] = name
    return found
