"""Compares norms with those of plain gradients, one example at a time, on a few examples."""

import keras
import numpy as np
import tensorflow as tf

EXAMPLES = 3
# Of a squared norm; rounding adds up over layers, and a wrong rule is wrong by more than this.
TOLERANCE = {tf.float64: 1e-8, tf.float32: 1e-3, tf.bfloat16: 0.1, tf.float16: 0.1}
# Of the whole squared norm: what a variable may be wrong by however small its own part is.
SMALL = 1e-3


def check(norms, x, y):
    """Raises if the norms of the first examples of a batch are wrong.

    Args:
        norms: a `GradientNorms`.
        x, y: a batch of tensors.

    Returns:
        Whether there was something to compare: False where losses were not finite.

    Raises:
        ValueError: a layer's norms are not those of its gradients.
    """
    few_x, few_y = (keras.tree.map_structure(lambda t: t[:EXAMPLES], part) for part in (x, y))
    found = np.stack([np.asarray(s, np.float64) for s in norms.squares(few_x, few_y)], axis=1)
    wanted = np.stack(
        [
            plain_squares(
                norms,
                *(keras.tree.map_structure(lambda t: t[i : i + 1], part) for part in (x, y)),  # noqa: B023
            )
            for i in range(len(found))
        ]
    )
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return False
    objective = norms.objective
    tolerance = TOLERANCE[tf.as_dtype(objective.model.compute_dtype)]
    allowed = tolerance * (wanted + SMALL * wanted.sum(axis=1, keepdims=True))
    # A gradient of nothing but rounding, as at a minimum, is not told from zero.
    wrong = np.abs(found - wanted) > allowed + np.finfo(np.float32).tiny
    if wrong.any():
        example, number = np.argwhere(wrong)[0]
        variable = objective.variables[number]
        raise ValueError(
            f"The squared gradient norm of {variable.path} should be {wanted[example, number]:.6g}"
            f" for example {example}, and came out as {found[example, number]:.6g}. Either an"
            " example's output depends on other examples of its batch, and there are no gradients"
            " of single examples, or the layer's rule is wrong (one of your own, or one for"
            " another version of Keras). check=False leaves this check out."
        )
    return True


def plain_squares(norms, x, y):
    """The squared norms of the gradients of one example, variable by variable: (variables,)."""
    objective = norms.objective
    if not hasattr(norms, "_plain"):
        norms._plain = tf.function(
            lambda x, y: _plain(objective, x, y, norms._penalty), autograph=False
        )
    return np.asarray(norms._plain(x, y), np.float64)


def _plain(objective, x, y, penalty):
    values, constants = objective.read()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        (loss,) = tf.unstack(
            objective.example_losses(y, objective.outputs(values, constants, x)), 1
        )
        added = objective.regularization(values, constants) if penalty else None
        if added is not None:
            loss += tf.cast(added, loss.dtype)
    gradients = tape.gradient(loss, values, unconnected_gradients="zero")
    return [tf.reduce_sum(tf.square(tf.convert_to_tensor(g))) for g in gradients]
