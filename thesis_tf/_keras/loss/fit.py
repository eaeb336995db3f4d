"""Whether a cross-entropy gets what it expects from a model: probabilities or logits."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras.loss.arguments import logits_of
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
    losses = keras.tree.flatten(objective.example_loss.user_loss)
    expects = [_expects_logits(loss) for loss in losses]
    if all(one is None for one in expects):
        return
    has_logits: list[bool] = []

    def outputs(x: Any) -> list[tf.Tensor]:
        found = tf.nest.flatten(objective.outputs(*objective.read(), x))
        has_logits.extend(logits_of(output) is not None for output in found)
        return found

    found = tf.function(outputs, autograph=False)(x)
    if len(expects) == 1:
        expects *= len(found)
    for expected, output, known in zip(expects, found, has_logits, strict=False):
        values = np.asarray(tf.cast(output, tf.float64))
        if expected is None or known or not np.isfinite(values).all():
            continue
        bounded = values.min() >= 0 and values.max() <= 1 + ROUNDING
        if not expected and not bounded:
            what = f"The loss expects probabilities, and the outputs of {objective.model.name} are"
            cure = "Pass from_logits=True to the loss, or end the model in a softmax or sigmoid."
        elif expected and bounded and values.shape[-1] > 1 and _sum_to_one(values):
            what = f"The loss expects logits, and the outputs of {objective.model.name} are"
            cure = "Pass from_logits=False to the loss."
        else:
            continue
        values_are = f"from {values.min():.3g} to {values.max():.3g}"
        if bounded:
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
    return bool(np.abs(values.sum(axis=-1) - 1).max() < ROUNDING)
