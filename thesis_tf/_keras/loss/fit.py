"""Whether a cross-entropy gets what it expects from a model: probabilities or logits."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras.loss import last_activation
from thesis_tf._keras.loss.arguments import logits_of
from thesis_tf._keras.loss.structure import loss_by_output
from thesis_tf._keras.objective import Objective

# With the rounding of 16 bits.
ROUNDING = 0.02


def warn_of_misfit(objective: Objective, x: Any, *, stacklevel: int) -> None:
    """Warns if a model puts out probabilities where logits are expected, or the reverse.

    Keras computes a loss for these as well, though hardly that which was meant.

    Args:
        objective: the model and its loss.
        x: inputs of a few examples.
        stacklevel: as for `warnings.warn`, 2 for the caller of this function.
    """
    user_loss = objective.example_loss.user_loss
    if all(_expects_logits(loss) is None for loss in keras.tree.flatten(user_loss)):
        return
    losses: list[Any] = []
    has_logits: list[bool] = []

    def outputs(x: Any) -> list[tf.Tensor]:
        found = objective.outputs(*objective.read(), x)
        losses.extend(loss_by_output(objective.model, user_loss, found))
        flat: list[tf.Tensor] = tf.nest.flatten(found)
        has_logits.extend(logits_of(output) is not None for output in flat)
        return flat

    found = tf.function(outputs, autograph=False)(x)
    expects = map(_expects_logits, losses)
    symbolic = tf.nest.flatten(getattr(objective.model, "outputs", None) or [None] * len(found))
    activations = map(last_activation.of_tensor, symbolic)
    for expected, output, known, ends in zip(expects, found, has_logits, activations, strict=True):
        values = np.asarray(tf.cast(output, tf.float64))
        if expected is None or known or not np.isfinite(values).all():
            continue
        ends = ends if ends in ("sigmoid", "softmax") else None
        bounded = values.min() >= 0 and values.max() <= 1 + ROUNDING
        if not expected and not bounded:
            what = f"The loss expects probabilities, and the outputs of {objective.model.name} are"
            cure = "Pass from_logits=True to the loss, or end the model in a softmax or sigmoid."
        elif expected and bounded and (ends or _sum_to_one(values)):
            what = f"The loss expects logits, and the outputs of {objective.model.name} are"
            cure = "Pass from_logits=False to the loss."
        else:
            continue
        values_are = f"from {values.min():.3g} to {values.max():.3g}"
        if ends:
            values_are += f", those of a {ends}"
        elif bounded:
            values_are += " and add up to 1"
        warnings.warn(f"{what} {values_are}. {cure}", stacklevel=stacklevel)


def _expects_logits(loss: Any) -> bool | None:
    """Returns whether a loss expects logits; None if it is no cross-entropy of Keras."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    module = "keras." if isinstance(loss, str) else str(getattr(loss, "__module__", ""))
    module = module or type(loss).__module__
    if not module.startswith("keras.") or "crossentropy" not in name.replace("_", "").lower():
        return None
    return bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))


def _sum_to_one(values: np.ndarray) -> bool:
    return values.shape[-1] > 1 and bool(np.abs(values.sum(axis=-1) - 1).max() < ROUNDING)
