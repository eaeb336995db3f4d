"""Converts the arrays of a source to checked `Splits`, with held-out examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array
from thesis_tf.datasets.splits import SPLIT_NAMES, Split, Splits

# Numbers above this are ids rather than classes, and a name for each would fill the memory.
MOST_UNNAMED_CLASSES = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The unchecked arrays (x, y) of each split from a reader; None for missing splits."""

    train: tuple[Any, Any]
    _: dataclasses.KW_ONLY
    validation: tuple[Any, Any] | None = None
    test: tuple[Any, Any] | None = None
    class_names: Sequence[str] | None = None


def assemble(name: str, source: Source, *, seed: int = 0) -> Splits:
    """Checks a source's arrays and holds out the splits that it lacks.

    A missing `validation` or `test` is replaced by a tenth of `train`, at least one example, drawn
    without replacement with `seed`; the rest is training data. Both tenths refer to the source's
    `train`. Examples keep the order of the source.

    uint8 examples of shape (height, width) are gray images and get a channel axis. Labels of shape
    (n, 1) become (n,). Other arrays are unchanged; held-out examples are copied.

    Args:
        name: the data set's name, also used in messages.
        source: a `Source`. Without class names, class i of `y_train` has the name str(i).
        seed: a non-negative integer.

    Returns:
        Splits.

    Raises:
        ValueError: if examples are not finite numbers of one shape and dtype, if labels are not
            integers in [0, number of classes), one per example, if there is only one class, or if
            too few examples are left to hold out a split.
    """
    given: dict[str, tuple[Array, Array]] = {}
    for split in SPLIT_NAMES:
        pair = getattr(source, split)
        if pair is not None:
            given[split] = (
                _examples(f"`x_{split}` of {name}", pair[0]),
                _labels(f"`y_{split}` of {name}", pair[1]),
            )
    _check_agreement(name, given)
    class_names = _class_names(name, source.class_names, given)
    splits = {}
    for split, (origin, rows) in _rows(name, given, seed).items():
        x, y = given[origin]
        if len(rows) < len(y):
            x, y = x[rows], y[rows]
        splits[split] = Split(
            x, y.astype(np.int64), source=origin, rows=rows, source_rows=len(given[origin][1])
        )
    return Splits(class_names=class_names, name=name, **splits)


def assemble_inputs(name: str, arrays: Mapping[str, Any], *, seed: int = 0) -> Splits:
    """Checks examples without labels and holds out the splits that are missing.

    Args:
        name: the data set's name.
        arrays: {split: array (n, ...)}, including "train".
        seed: a non-negative integer.

    Returns:
        Splits whose `y` are their `x`, the targets of an auto-encoder. Examples are float32, or
        float64 if they came so; uint8 pixels become numbers in [0, 1].

    Raises:
        ValueError: if examples are not finite numbers of one shape and dtype, or too few.
    """
    given = {}
    for split in SPLIT_NAMES:
        if split in arrays:
            x = _examples(f"`x_{split}` of {name}", arrays[split])
            given[split] = (x, x)
    _check_agreement(name, given)
    splits = {}
    for split, (source, rows) in _rows(name, given, seed).items():
        x = given[source][0]
        x = _as_floats(x[rows] if len(rows) < len(x) else x)
        splits[split] = Split(x, x, source=source, rows=rows, source_rows=len(given[source][0]))
    return Splits(class_names=(), name=name, **splits)


def _as_floats(x: Array) -> Array:
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 255
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _examples(label: str, x: Any) -> Array:
    x = np.asarray(x)
    if x.dtype.kind not in "buif":
        raise checks.invalid(label, "an array of numbers", f"dtype {x.dtype}")
    if x.ndim < 2 or x.size == 0:
        raise checks.invalid(
            label, "of shape (n, ...) with at least one example and value", f"shape {x.shape}"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(1, x.ndim))))
        raise checks.invalid(
            label,
            "finite",
            f"NaN or infinity in {len(bad)} of {len(x)} examples, the first at {bad[0]}",
            "Remove these examples or repair them.",
        )
    return x[..., np.newaxis] if x.dtype == np.uint8 and x.ndim == 3 else x


def _labels(label: str, y: Any) -> Array:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        advice = "Pass y.argmax(axis=1) of one-hot labels." if y.ndim == 2 else None
        raise checks.invalid(label, "of shape (n,) or (n, 1)", f"shape {y.shape}", advice)
    if y.dtype.kind not in "iu":
        raise checks.invalid(label, "an array of integers", f"dtype {y.dtype}")
    return y


def _check_agreement(name: str, given: Mapping[str, tuple[Array, Array]]) -> None:
    """Raises unless every example has a label, and all examples have one shape and dtype."""
    first = given["train"][0]
    for split, (x, y) in given.items():
        if len(x) != len(y):
            raise checks.invalid(
                f"`y_{split}` of {name}",
                f"as long as `x_{split}`, {len(x)} examples",
                f"{len(y)} labels",
            )
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise checks.invalid(
                f"`x_{split}` of {name}",
                f"{first.dtype} of shape (n, {', '.join(map(str, first.shape[1:]))}), "
                "as `x_train` is",
                f"{x.dtype} of shape {x.shape}",
            )


def _class_names(
    name: str, names: Sequence[str] | None, given: Mapping[str, tuple[Array, Array]]
) -> tuple[str, ...]:
    """Returns the names of the classes; raises if a label is out of their range."""
    y_train = given["train"][1]
    if names is None:
        where, advice = "the classes of `y_train`", "Give `class_names` if there are more classes."
        count = max(1, min(int(y_train.max()) + 1, MOST_UNNAMED_CLASSES))
    else:
        where, advice, count = "one of the `class_names`", None, len(names)
    for split, (_, y) in given.items():
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= count:
            raise checks.invalid(
                f"`y_{split}` of {name}",
                f"integers in [0, {count}), {where}",
                f"labels from {low} to {high}",
                advice,
            )
    if y_train.min() == y_train.max():
        raise checks.invalid(
            f"`y_train` of {name}",
            "labels of at least two classes",
            f"{len(y_train)} {'label' if len(y_train) == 1 else 'labels'}, all {y_train[0]}",
        )
    return tuple(map(str, range(count) if names is None else names))


def _rows(
    name: str, given: Mapping[str, tuple[Array, Array]], seed: int
) -> dict[str, tuple[str, Array]]:
    """Returns for each split the source's split that it comes from, and its rows there."""
    whole = {split: (split, np.arange(len(y))) for split, (_, y) in given.items()}
    missing = [split for split in SPLIT_NAMES if split not in given]
    if not missing:
        return whole
    count = len(whole["train"][1])
    size = max(1, count // 10)
    if count <= size * len(missing):
        raise checks.invalid(
            f"`x_train` of {name}",
            f"at least {len(missing) + 1} examples, as {' and '.join(missing)} are drawn from it",
            f"{count}",
        )
    order = seeds.generator(seed, "hold_out").permutation(count)
    # In the source's order, not in random order, so that rows are easy to find in the source.
    drawn = {
        split: ("train", np.sort(order[i * size : (i + 1) * size]))
        for i, split in enumerate(missing)
    }
    return whole | drawn | {"train": ("train", np.sort(order[len(missing) * size :]))}
