"""Whether what a model changes at inference matters for its outputs."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
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


def refuse_stateful(model: keras.Model) -> None:
    """Raises ValueError if a recurrent layer begins a batch with the state of the one before."""
    for layer in _stateful(model):
        raise ValueError(
            f"{layer.name} is stateful: it begins a batch with the state in which the one before"
            " ended, so that the loss of an example depends on what came before it. Build the model"
            " with stateful=False."
        )


def check_reset(model: keras.Model) -> None:
    """Raises ValueError if a stateful recurrent layer has a state, with which all batches begin."""
    for layer in _stateful(model):
        if any(np.any(state) for state in keras.tree.flatten(layer.states)):
            raise ValueError(
                f"{layer.name} is stateful and has the state of an earlier batch, with which every"
                f" batch would begin here. Call {layer.name}.reset_state() first."
            )


def _stateful(model: keras.Model) -> list[Any]:
    return [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]


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
