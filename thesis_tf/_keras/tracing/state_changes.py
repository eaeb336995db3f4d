"""Whether what a model changes at inference matters for its outputs."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def check(
    model: keras.Model,
    changed: Sequence[tuple[keras.Variable, "tf.Tensor"]],
    outputs: Any,
) -> None:
    """Raises ValueError unless outputs are a function of parameters and inputs.

    Keras' recurrent layers draw dropout masks at inference too, and don't use them.

    Args:
        model: the model that was called with training=False.
        changed: the variables that this changed, with the tensors of their values before it.
        outputs: its outputs, tensors of the same graph.
    """
    for variable, before in changed:
        is_seed = variable.path.split("/")[-1] == "seed_generator_state"
        if is_seed and not _depend(outputs, before):
            continue
        why = "updates a state at inference, as batch normalization does"
        if is_seed:
            why = "draws random numbers at inference, as dropout does"
        raise ValueError(
            f"{variable.path} changes when {model.name} is called with training=False: its layer"
            f" {why} that was added to the model with training=True. The loss of such a model isn't"
            " a function of its parameters; build the model without it."
        )


def _depend(outputs: Any, tensor: "tf.Tensor") -> bool:
    """Returns whether tensors are computed from another one of the same graph.

    A loop or a function counts as using all of its inputs for each of its outputs.
    """
    waiting = [t for t in tf.nest.flatten(outputs) if isinstance(t, tf.Tensor)]
    seen: set[str] = set()
    while waiting:
        found = waiting.pop()
        if found is tensor:
            return True
        if found.op.name not in seen:
            seen.add(found.op.name)
            waiting.extend(found.op.inputs)
    return False
