"""Ordinary gradients of single examples: exact for each model, and slower than one pass."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure
from thesis_tf._keras.objective import Objective


def loss_of_one(
    objective: Objective,
    values: list[tf.Tensor],
    constants: list[tf.Tensor],
    x: Structure,
    y: Structure,
    *,
    divisors: Sequence[tf.Tensor] | None,
    regularization: bool,
    training: bool = False,
    copies: int = 1,
) -> tuple[tf.Tensor, Structure]:
    """Returns (one example's loss, the model's outputs).

    Args:
        objective: the model and the loss.
        values, constants: as `objective.read` returns them.
        x, y: a batch of one example.
        divisors: as for `Objective.example_losses`: those of the batch from which the example is.
        regularization: whether the loss includes the regularizers.
        training: whether the model runs in training mode.
        copies: the size of the batch in which the model runs, all of whose examples are the same. 2
            avoids axes of size 1, see `examplewise`.
    """
    if copies > 1:
        rows = tf.zeros(copies, tf.int32)
        x, y = keras.tree.map_structure(lambda t: tf.gather(t, rows), (x, y))
    outputs = objective.outputs(values, constants, x, training=training)
    loss = tf.unstack(objective.example_losses(y, outputs, divisors), copies)[0]
    added = objective.regularization(values, constants) if regularization else None
    if added is not None:
        loss += tf.cast(added, loss.dtype)
    return loss, outputs


def squared_norms(gradients: list[tf.Tensor], dtype: tf.DType) -> list[tf.Tensor]:
    """Returns the squared norm of each gradient, a scalar."""
    dense = map(tf.convert_to_tensor, gradients)
    return [tf.reduce_sum(tf.square(tf.cast(g, dtype))) for g in dense]
