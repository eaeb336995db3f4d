"""Clamping: chains whose visible units stay in a set, such as the known pixels of an image (5.3.6).

A clamp is a function that projects x (chains, ...) onto the set. Chains apply it to their beginning
and to what every step draws, so that the next step sees what is clamped. For a mask, and P(x | h)
whose values are independent, that is sampling from P(x | h, x in S); other sets S need a projection
whose draws follow that distribution for the conditions of 5.B to hold.
"""

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks


class MaskClamp:
    """Holds values of x where a mask is true.

    Args:
        mask: boolean, the shape of one example, or (chains, ...) for a mask a chain.
        values: an example or (chains, ...), what is held; elsewhere they don't matter.

    Raises:
        TypeError: the mask isn't boolean.
        ValueError: mask and values don't fit one another.
    """

    def __init__(self, mask, values):
        mask = np.asarray(mask)
        if mask.dtype != bool:
            advice = "Write mask == 1."
            raise checks.invalid("`mask`", "boolean", mask.dtype.name, advice, TypeError)
        values = tf.convert_to_tensor(values)
        shapes = (tuple(values.shape), tuple(values.shape[1:]))
        if mask.shape not in shapes and mask.shape[1:] != shapes[0]:
            raise checks.invalid(
                "`mask`", f"of the shape of values {shapes[0]} or of one of them", mask.shape
            )
        self._mask, self._values = tf.constant(mask), values

    def __call__(self, x):
        """Returns x (chains, ...) with the held values in place, the rest as it is."""
        for name, part in (("mask", self._mask), ("values", self._values)):
            if tuple(part.shape) not in (tuple(x.shape), tuple(x.shape[1:])):
                raise checks.invalid(
                    f"`{name}` of a clamp",
                    f"of shape {tuple(x.shape[1:])}, an example's, or {tuple(x.shape)}",
                    f"shape {tuple(part.shape)}",
                )
        return tf.where(self._mask, tf.cast(self._values, x.dtype), x)


def checked_clamp(clamp, x):
    """Returns x (chains, ...) in the set of a clamp.

    Raises:
        TypeError: the clamp is no function.
        ValueError: it changes the shape or dtype, or what it has projected already.
    """
    if not callable(clamp):
        expected = "a function from x to x, such as MaskClamp(mask, values)"
        raise checks.invalid("`clamp`", expected, type(clamp).__name__, kind=TypeError)
    once = tf.convert_to_tensor(clamp(x))
    if once.shape != x.shape or once.dtype != x.dtype:
        raise checks.invalid(
            "`clamp`",
            f"a function that keeps {x.dtype.name} of shape {tuple(x.shape)}",
            f"one that returns {once.dtype.name} of shape {tuple(once.shape)}",
        )
    if not np.array_equal(clamp(once), once):
        raise checks.invalid(
            "`clamp`", "a projection, for which clamp(clamp(x)) == clamp(x)", "another function"
        )
    return once
