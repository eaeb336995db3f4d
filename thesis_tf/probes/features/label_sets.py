"""Sets of labels that probes predict, and which of the model's outputs predict them too."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.probes.features.store import FeatureStore

OWN = "class"  # the name of the labels that the model predicts
MOST_CLASSES = 100_000  # more are taken for other numbers, such as timestamps

Rows = slice | Array


class LabelSet(NamedTuple):
    """The target of probes: labels (N,) in [0, classes)."""

    name: str
    labels: Array
    classes: int


def kept_by(store: FeatureStore) -> Array | Mapping[str, Array]:
    """Returns the labels that a store keeps; raises if it keeps none."""
    if store.labels is None:
        raise checks.invalid(
            "`labels`",
            "given for a store that keeps none",
            None,
            "A store keeps the integer labels of a tf.data.Dataset of (inputs, labels).",
        )
    return store.labels


def checked(
    name: str,
    shown: str,
    labels: ArrayLike,
    examples: int,
    rows: Mapping[str, Rows],
    class_names: Sequence[str] | None,
) -> LabelSet:
    """Checks labels and counts their classes.

    Args:
        name: the name of the set.
        shown: its name in errors.
        labels: (N,) or (N, 1), integers or booleans.
        examples: N.
        rows: the rows of each split.
        class_names: the names of the classes, if they are known.

    Raises:
        ValueError: labels have another length, are out of range, or have only one class.
        TypeError: they aren't integers.
    """
    labels, train = np.asarray(labels), rows["train"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (examples,):
        raise checks.invalid(
            shown, f"({examples},), one for each example of the store", labels.shape
        )
    if labels.dtype == bool:
        labels = labels.astype(np.int64)
    if not np.issubdtype(labels.dtype, np.integer):
        raise checks.invalid(shown, "integers", labels.dtype, kind=TypeError)
    if labels.min() < 0:
        raise checks.invalid(
            shown,
            "in [0, K)",
            f"a smallest value of {labels.min()}",
            f"{(labels < 0).sum()} labels are negative: leave these examples out of `splits`, and"
            " give them any class.",
        )
    classes = int(labels.max()) + 1
    if classes > MOST_CLASSES and not class_names:
        raise checks.invalid(
            shown,
            f"in [0, K), with K up to {MOST_CLASSES:,}",
            f"{len(np.unique(labels))} different values, the largest {classes - 1}",
            "Number them from 0: np.unique(labels, return_inverse=True)[1].",
        )
    if class_names and classes > len(class_names):
        raise checks.invalid(
            "`class_names`", f"{classes} names, given the largest label", len(class_names)
        )
    if len(np.unique(labels[train])) < 2:
        raise checks.invalid(
            shown,
            "of at least two classes in the training examples",
            f"class {labels[train][0]} only",
        )
    for split, part in rows.items():
        unknown = np.setdiff1d(labels[part], labels[train])
        if len(unknown):
            found = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            warnings.warn(
                f"No training example has the {shown} {found}, but"
                f" {np.isin(labels[part], unknown).sum()} of {len(labels[part])} {split} examples"
                " have: probes are wrong there. Shuffle the examples, or stratify"
                " the splits.",
                stacklevel=3,
            )
    return LabelSet(name, labels.astype(np.int64), len(class_names or ()) or classes)


def outputs_that_predict(
    name: str, outputs: Sequence[str], *, among: Collection[str] | None
) -> list[str]:
    """Returns the model's outputs that predict a set of labels, if they have as many classes.

    Labels that are given alone are those of the model. Of several sets in a dict, each belongs to
    the output of its name, and "class" to all outputs that aren't those of other sets: an equal
    number of classes doesn't make the model predict the hour at which a photo was taken.

    Args:
        name: the name of the set.
        outputs: the names of the outputs' taps: "output", or "output/KEY" for each of several.
        among: the names of all sets that are given in a dict; None for labels given alone.
    """
    if among is None:
        return list(outputs)
    keys = {output: output.removeprefix("output/") for output in outputs}
    if name in keys.values():
        return [output for output, key in keys.items() if key == name]
    return [output for output, key in keys.items() if name == OWN and key not in among]
