"""Whether labels that are numbers of classes are those of a model's outputs."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure
from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf._keras.loss.structure import losses_of_outputs
from thesis_tf._keras.objective import Objective


class ClassCheck:
    """Checks labels of sparse cross-entropies against the widths of their outputs.

    TensorFlow's own error for other labels has no range and comes late, and on a GPU their loss is
    NaN instead.

    Args:
        objective: the model and its loss.
        x: inputs of at least one example, arrays or tensors.
    """

    def __init__(self, objective: Objective, x: Structure) -> None:
        self._model, self._loss = objective.model, objective.example_loss.user_loss
        self._outputs: Any = None
        if any(map(_may_be_sparse, keras.tree.flatten(self._loss))):
            traced = tf.function(lambda x: objective.outputs(*objective.read(), x), autograph=False)
            few = tf.nest.map_structure(lambda a: tf.convert_to_tensor(a[:1]), x)
            self._outputs = traced.get_concrete_function(few).structured_outputs

    def __call__(self, parts: Iterable[Structure]) -> None:
        """Checks labels, arrays or tensors of any numbers of examples.

        Raises:
            ValueError: a label isn't in [0, K), and isn't the loss' `ignore_class`.
        """
        if self._outputs is None:
            return
        found: dict[int, list[tuple[float, float, int]]] = {}
        sizes: dict[int, int] = {}
        for y in parts:
            y = y.y if isinstance(y, WeightedLabels) else y
            y = tf.nest.map_structure(tf.convert_to_tensor, y)
            of_outputs = losses_of_outputs(self._model, self._loss, None, y, self._outputs, None)
            for number, part in enumerate(of_outputs):
                if not _is_sparse(part.loss):
                    continue
                options = getattr(part.loss, "_fn_kwargs", {})
                sizes[number] = part.outputs.shape[options.get("axis", -1)]
                labels = np.asarray(part.y)
                labels = labels[labels != options.get("ignore_class")]
                if labels.size:
                    extremes = (labels.min(), labels.max(), int((labels < 0).sum()))
                    found.setdefault(number, []).append(extremes)
        for number, several in found.items():
            lows, highs, negative = zip(*several, strict=True)
            _check_range(min(lows), max(highs), sum(negative), sizes[number])


def _check_range(low: float, high: float, negative: int, classes: int) -> None:
    if low >= 0 and high < classes:
        return
    advice = f"The model has {classes} outputs: give it one for each class."
    if negative:
        advice = (
            f"{negative} are negative: remove or relabel these examples, or pass their label as"
            " `ignore_class` to the loss."
        )
    elif low >= 1 and high == classes:
        advice = "Number the classes from 0."
    raise checks.invalid("The labels", f"in [0, {classes})", f"{low:g} to {high:g}", advice)


def _may_be_sparse(loss: Any) -> bool:
    if isinstance(loss, str):  # Keras' "ce" chooses by the shapes
        return loss.lower() in ("ce", "crossentropy") or _is_sparse(keras.losses.get(loss))
    return _is_sparse(loss)


def _is_sparse(loss: Any) -> bool:
    return (
        isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        or loss is keras.losses.sparse_categorical_crossentropy
    )
