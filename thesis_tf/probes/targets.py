"""Labels from a model's targets, and the model's own error on them, as Keras computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure

_CROSS_ENTROPIES = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
)
_NAMES = {"ce", "crossentropy", "sparse_categorical_crossentropy", "categorical_crossentropy"}


class LabelSource(NamedTuple):
    """Where labels come from among a model's targets.

    Attributes:
        path: the path of the target that the labels are; None for labels derived from targets.
        targets: the number of targets.
        one_hot: whether the target is one-hot, (n, K).
    """

    path: tuple[Any, ...] | None
    targets: int
    one_hot: bool


def select(
    y: Structure, labels: Callable[[Any], Any] | None, classes: int
) -> tuple[tf.Tensor, LabelSource]:
    """Returns the target with the labels, and its place.

    Args:
        y: a batch of the model's targets.
        labels: a function from `y` to labels; None takes the first target.
        classes: K.

    Raises:
        ValueError: the target is neither labels (n,) or (n, 1) nor one-hot (n, K).
        TypeError: it isn't numeric.
    """
    leaves = keras.tree.flatten_with_path(y)
    path, found = leaves[0] if leaves else (None, None)
    if labels is not None:
        found = keras.tree.flatten(labels(y))[0]
        path = next((path for path, leaf in leaves if leaf is found), None)
    if found is None:
        raise checks.invalid("The targets", "labels", "none", "Pass y to `fit`.")
    tensor = tf.convert_to_tensor(found)
    shape = tensor.shape
    one_hot = shape.rank == 2 and shape[1] == classes
    if not (one_hot or shape.rank == 1 or (shape.rank == 2 and shape[1] == 1)):
        raise checks.invalid(
            "The target with the labels",
            f"of shape (n,), (n, 1) or, one-hot, (n, {classes})",
            shape,
            "Pass `labels`, a function from the targets to labels.",
        )
    if not (tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool):
        raise checks.invalid(
            "The target with the labels", "numbers", tensor.dtype.name, kind=TypeError
        )
    return tensor, LabelSource(path, len(leaves), one_hot)


def integers(target: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns int32 labels (n,) in [0, K), and which are valid; others are 0.

    A number is valid if it is whole and in [0, K); a row if it isn't negative and its sum is 1, as
    those of smoothed or mixed labels.
    """
    if target.shape.rank == 2 and target.shape[1] == classes:
        rows = tf.cast(target, tf.float32)
        valid = tf.reduce_all(rows >= 0, 1) & (tf.abs(tf.reduce_sum(rows, 1) - 1) <= 1e-2)
        found = tf.argmax(rows, 1)
    else:
        flat = tf.reshape(target, [-1])
        if not flat.dtype.is_floating:
            # Whatever doesn't fit into 32 bits would become another label there.
            found = tf.cast(flat, tf.int64)
            valid = (found >= 0) & (found < classes)
        else:
            valid = (flat >= 0) & (flat < classes) & (flat == tf.floor(flat))
            found = tf.cast(tf.where(valid, flat, tf.zeros_like(flat)), tf.int64)
    return tf.cast(tf.where(valid, found, tf.zeros_like(found)), tf.int32), valid


def model_measures(
    model: keras.Model, outputs: Structure, labels: tf.Tensor, place: LabelSource, classes: int
) -> tuple[tf.Tensor, ...]:
    """Returns for each example whether the model is wrong, and its cross-entropy in nats.

    The output is read as by the loss that the model is compiled with: as logits or probabilities.
    With a loss of one's own, or none, rows that aren't negative and whose sum is 1 are
    probabilities. With other losses of Keras the cross-entropy is NaN.

    Args:
        model: the model, whose pass is being traced.
        outputs: its outputs for a batch.
        labels: (n,), in [0, K).
        place: where the labels come from.
        classes: K.

    Returns:
        (n,) booleans and (n,) float32; nothing if no output predicts these labels.
    """
    leaves = keras.tree.flatten_with_path(outputs)
    index = _output(model, [path for path, _ in leaves], place)
    if index is None:
        return ()
    path, output = leaves[index]
    if output.shape.rank != 2 or output.shape[1] != classes:
        return ()
    loss = _loss(model, index, len(leaves), path)
    if isinstance(loss, str) and loss not in _NAMES:
        loss = keras.losses.get(loss)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    made_by_softmax = hasattr(output, "_keras_logits") or output.op.type == "Softmax"
    if isinstance(loss, _CROSS_ENTROPIES):
        nats = _nats(labels, output, from_logits=loss.get_config()["from_logits"])
    elif name in _NAMES or (made_by_softmax and not _is_of_keras(loss)):
        nats = _nats(labels, output, from_logits=False)
    elif not _is_of_keras(loss):
        values = tf.cast(output, tf.float32)
        is_probability = tf.reduce_all(values >= 0, 1, keepdims=True)
        is_probability &= tf.abs(tf.reduce_sum(values, 1, keepdims=True) - 1) <= 1e-2
        logs = tf.math.log(tf.maximum(values, 1e-30))
        nats = _nats(labels, tf.where(is_probability, logs, values), from_logits=True)
    elif place.one_hot:
        nats = tf.fill(tf.shape(labels), float("nan"))
    else:
        return ()
    # As in `metrics.measure`; an infinite logit excludes a class.
    unknown = tf.reduce_any(tf.math.is_nan(output), 1)
    wrong = (tf.argmax(output, 1, tf.int32) != labels) | unknown
    return wrong, tf.cast(nats, tf.float32)


def _nats(labels: tf.Tensor, output: tf.Tensor, *, from_logits: bool) -> tf.Tensor:
    # Keras reads a softmax' logits instead of its rounded probabilities, and 16 bits in float32.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, reduction=None)
    return loss(labels, output)


def _is_of_keras(loss: Any) -> bool:
    if isinstance(loss, keras.losses.Loss):
        return type(loss).__module__.startswith("keras.")
    return (getattr(loss, "__module__", None) or "").startswith("keras.")


def _output(model: keras.Model, paths: list[tuple[Any, ...]], place: LabelSource) -> int | None:
    """Returns the index of the output that is trained on the target with the labels."""
    if len(paths) != place.targets:
        return None
    if len(paths) == 1:
        return 0
    if place.path in paths:
        return paths.index(place.path)
    names = getattr(model, "output_names", None) or []
    if place.path and len(names) == len(paths) and place.path[-1] in names:
        return names.index(place.path[-1])
    return None


def _loss(model: keras.Model, index: int, outputs: int, path: tuple[Any, ...]) -> Any:
    """Returns the loss of one output as it was passed to `compile`; None if there is none."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, dict):
        names = getattr(model, "output_names", None) or []
        keys = [*path[-1:], *(names[index : index + 1] if len(names) == outputs else [])]
        return next((loss[key] for key in keys if key in loss), None)
    if isinstance(loss, list | tuple):
        return loss[index] if len(loss) == outputs else None
    return loss
