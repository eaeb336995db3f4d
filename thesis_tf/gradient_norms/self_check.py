"""Compares per-example gradient norms with ordinary gradients of a few single examples."""

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core.types import Array, Structure
from thesis_tf._keras.objective import Objective

EXAMPLES = 3
# Relative tolerance of a squared norm. Rounding accumulates over layers; wrong rules exceed this.
TOLERANCE = {tf.float64: 1e-8, tf.float32: 1e-3, tf.bfloat16: 0.1, tf.float16: 0.1}
# Absolute tolerance for each variable, as a fraction of the whole squared norm.
SMALL = 1e-3


def plain_squares(
    objective: Objective, *, regularization: bool
) -> tf.types.experimental.GenericFunction:
    """Returns a compiled function of a batch (x, y) of one example, and of divisors.

    It returns the squared norms of the example's gradient for each variable, a list of scalars. The
    divisors are those of the batch from which the example is, None for the objective's.
    """

    def squares(
        x: Structure, y: Structure, divisors: list[tf.Tensor] | None = None
    ) -> list[tf.Tensor]:
        values, constants = objective.read()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            outputs = objective.outputs(values, constants, x)
            (loss,) = tf.unstack(objective.example_losses(y, outputs, divisors), 1)
            added = objective.regularization(values, constants) if regularization else None
            if added is not None:
                loss += tf.cast(added, loss.dtype)
        gradients = tape.gradient(loss, values, unconnected_gradients="zero")
        return [tf.reduce_sum(tf.square(tf.convert_to_tensor(g))) for g in gradients]

    return tf.function(squares, autograph=False)


def compare(found: Array, expected: Array, objective: Objective) -> bool:
    """Raises if squared norms differ from those of ordinary gradients by more than rounding.

    Args:
        found: (examples, variables) float64, the squared norms to check.
        expected: (examples, variables) float64, the squared norms of ordinary gradients.
        objective: the `Objective` of the gradients.

    Returns:
        Whether they could be compared; False if a norm is not finite.

    Raises:
        ValueError: a variable's norm is wrong.
    """
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return False
    tolerance = TOLERANCE[tf.as_dtype(objective.model.compute_dtype)]
    allowed = tolerance * (expected + SMALL * expected.sum(axis=1, keepdims=True))
    # At a minimum, a gradient is only rounding errors, which can't be distinguished from zero.
    wrong = np.abs(found - expected) > allowed + np.finfo(np.float32).tiny
    if wrong.any():
        example, number = np.argwhere(wrong)[0]
        variable: keras.Variable = objective.variables[number]
        raise ValueError(
            f"The squared gradient norm of {variable.path} for example {example} should be"
            f" {expected[example, number]:.6g}, and the layer's rule gives"
            f" {found[example, number]:.6g}. Either an example's output depends on other examples"
            " of its batch, so that there are no per-example gradients, or the layer's rule is"
            " wrong (a custom rule, or a rule for another version of Keras). check=False skips"
            " this check."
        )
    return True
