"""Converts the arrays of a source to checked `Splits`, with held-out examples."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array
from thesis_tf.datasets.splits import SPLIT_NAMES, Split, Splits
from thesis_tf.datasets.values import Told, ValueRange, as_floats, find, to_unit

# Numbers above this are ids rather than classes, and a name for each would fill the memory.
MOST_UNNAMED_CLASSES = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The unchecked arrays (x, y) of each split from a reader; None for missing splits.

    Labels are None for splits without labels, which only `assemble_inputs` takes.

    Attributes:
        class_names: the names of the classes, if the source has them.
        names: {split: the name of the file of each example}.
        values: the range that the format says values have; None if only the values show it.
        stratified: whether splits are drawn class by class. The well-known data sets were drawn
            without regard to the class before, and keep their splits.
        notes: phrases about what was read and what was left out.
    """

    train: tuple[Any, Any]
    _: dataclasses.KW_ONLY
    validation: tuple[Any, Any] | None = None
    test: tuple[Any, Any] | None = None
    class_names: Sequence[str] | None = None
    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    values: Told = None
    stratified: bool = True
    notes: tuple[str, ...] = ()


def assemble(name: str, source: Source, *, value_range: Told = None, seed: int = 0) -> Splits:
    """Checks a source's arrays and holds out the splits that it lacks.

    A missing `validation` or `test` is replaced by a tenth of `train`, at least one example, drawn
    without replacement with `seed`; the rest is training data. Both tenths refer to the source's
    `train`. If the source is `stratified`, each class has its share of each split, to within one
    example, and at least one example in the training data. Examples keep the order of the source.

    Examples of shape (height, width) are gray images and get a channel axis if they are uint8, or
    if their values are pixels (see `values.find`). Labels of shape (n, 1) become (n,). Other arrays
    are unchanged, in the machine's byte order; held-out examples are copied.

    Args:
        name: the data set's name, also used in messages.
        source: a `Source`. Without class names, class i of `y_train` has the name str(i).
        value_range: the range of values, which replaces that of the source.
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
    values = find(name, (x for x, _ in given.values()), told=value_range or source.values)
    given = {split: (_with_channel(x, values), y) for split, (x, y) in given.items()}
    strata = given["train"][1] if source.stratified else None
    splits = {}
    for split, (origin, rows) in _rows(name, given, seed, strata).items():
        x, y = given[origin]
        names, source_rows = source.names.get(origin), len(y)
        if len(rows) < len(y):
            x, y = x[rows], y[rows]
        splits[split] = Split(
            x,
            y.astype(np.int64),
            source=origin,
            rows=rows,
            source_rows=source_rows,
            source_names=names,
        )
    return Splits(class_names=class_names, name=name, values=values, notes=source.notes, **splits)


def assemble_inputs(
    name: str, source: Source, *, value_range: Told = None, seed: int = 0
) -> Splits:
    """Checks examples without labels and holds out the splits that are missing.

    Args:
        name: the data set's name.
        source: a `Source`. Labels, where it has them, only choose the examples that are held out,
            so that these are those of `assemble`.
        value_range: the range of values, which replaces that of the source.
        seed: a non-negative integer.

    Returns:
        Splits whose `y` are their `x`, the targets of an auto-encoder. Examples are float32, or
        float64 if they came so; integers that are pixels, and all values if `value_range` tells
        what black and white are, become numbers in [0, 1].

    Raises:
        ValueError: if examples are not finite numbers of one shape and dtype, or too few, or if
            uint8 examples may be in [0, 255] or in another range.
    """
    given = {}
    for split in SPLIT_NAMES:
        pair = getattr(source, split)
        if pair is not None:
            x = _examples(f"`x_{split}` of {name}", pair[0])
            given[split] = (x, x)
    _check_agreement(name, given)
    told = value_range or source.values
    values = to_unit(find(name, (x for x, _ in given.values()), told=told), told, name)
    splits = {}
    for split, (origin, rows) in _rows(name, given, seed, _strata(source, given)).items():
        x = _with_channel(given[origin][0], values)
        x = as_floats(x[rows] if len(rows) < len(x) else x, values)
        splits[split] = Split(
            x,
            x,
            source=origin,
            rows=rows,
            source_rows=len(given[origin][0]),
            source_names=source.names.get(origin),
        )
    return Splits(class_names=(), name=name, values=values, notes=source.notes, **splits)


def _strata(source: Source, given: Mapping[str, tuple[Array, Array]]) -> Array | None:
    """Returns the labels by which `assemble` would draw splits; None if it can't or needn't."""
    if not source.stratified or source.train[1] is None:
        return None
    try:
        y = _labels("", source.train[1])
    except ValueError:
        return None
    return y if len(y) == len(given["train"][0]) else None


def _with_channel(x: Array, values: ValueRange) -> Array:
    """Adds a channel axis to gray images of other dtypes than uint8, which have it already."""
    return x[..., np.newaxis] if x.ndim == 3 and values.pixels is not None else x


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
    # Big-endian float64 would count as another dtype than float64.
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    return x[..., np.newaxis] if x.dtype == np.uint8 and x.ndim == 3 else x


def _labels(label: str, y: Any) -> Array:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        advice = "Pass y.argmax(axis=1) of one-hot labels." if y.ndim == 2 else None
        raise checks.invalid(label, "of shape (n,) or (n, 1)", f"shape {y.shape}", advice)
    if y.dtype.kind not in "iu":
        advice = {
            "f": "Pass y.astype(int) if they are numbers of classes.",
            "b": "Pass y.astype(int).",
            "U": "Pass names, y = np.unique(y, return_inverse=True), and names as `class_names`.",
        }.get(y.dtype.kind)
        raise checks.invalid(label, "an array of integers", f"dtype {y.dtype}", advice)
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
        twice = [name for name, number in collections.Counter(names).items() if number > 1]
        if twice:
            raise checks.invalid(
                f"`class_names` of {name}",
                "different names",
                f"{', '.join(map(str, twice[:3]))} more than once",
            )
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
    name: str,
    given: Mapping[str, tuple[Array, Array]],
    seed: int,
    strata: Array | None = None,
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
    rng = seeds.generator(seed, "hold_out")
    if strata is None:
        order = rng.permutation(count)
        parts = [order[i * size : (i + 1) * size] for i in range(len(missing))]
    else:
        parts = _stratified(name, strata, size, missing, rng)
    # In the source's order, not in random order, so that rows are easy to find in the source.
    drawn = {split: ("train", np.sort(p)) for split, p in zip(missing, parts, strict=True)}
    rest = np.setdiff1d(np.arange(count), np.concatenate(parts), assume_unique=True)
    return whole | drawn | {"train": ("train", rest)}


def _stratified(
    name: str, y: Array, size: int, missing: Sequence[str], rng: np.random.Generator
) -> list[Array]:
    """Draws `size` examples for each missing split, of each class its share to within one.

    One example of each class stays in the training data. The others are put in order of class, in
    random order within a class, and drawn at equal distances from a random start.
    """
    order = rng.permutation(len(y))
    _, firsts = np.unique(y[order], return_index=True)
    free = np.delete(order, firsts)
    if len(free) < size * len(missing):
        raise checks.invalid(
            f"`x_train` of {name}",
            f"at least {len(firsts) + size * len(missing)} examples, as"
            f" {' and '.join(missing)} are drawn from it and each of its {len(firsts)} classes"
            " keeps one for training",
            f"{len(y)}",
        )
    free = free[np.argsort(y[free], kind="stable")]
    stride, start = len(free) / size, rng.uniform()
    parts = []
    for i in range(len(missing)):
        places = (start + i / len(missing)) % 1 + np.arange(size)
        parts.append(free[np.minimum((places * stride).astype(int), len(free) - 1)])
    return parts
