"""Clamping: restricts the visible units of chains to a set, e.g. to fix known pixels (5.3.6).

A clamp is a function that projects x (chains, ...) onto a set S. It is applied to the initial state
and after every step, so that the next step sees the clamped x. For a mask, and a P(x | h) with
independent values, this samples from P(x | h, x in S). For other sets S, the conditions of 5.B hold
only if the projected draws have this distribution.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import ArrayLike, TensorLike


class MaskClamp:
    """Keeps values of x fixed where a mask is true.

    Args:
        mask: boolean, of the shape of one example, or (chains, ...) for one mask per chain.
        values: one example or (chains, ...), the values where the mask is true; other values are
            ignored.

    Raises:
        TypeError: the mask isn't boolean.
        ValueError: the shapes of mask and values don't match, or a value that is fixed is NaN or
            infinite.
    """

    def __init__(self, mask: ArrayLike, values: TensorLike) -> None:
        mask = np.asarray(mask)
        if mask.dtype != bool:
            advice = "Pass mask == 1."
            raise checks.invalid("`mask`", "boolean", mask.dtype.name, advice, kind=TypeError)
        values = tf.convert_to_tensor(values)
        shapes = (tuple(values.shape), tuple(values.shape[1:]))
        if mask.shape not in shapes and mask.shape[1:] != shapes[0]:
            raise checks.invalid(
                "`mask`", f"of the shape of values {shapes[0]} or of one of them", mask.shape
            )
        fixed = np.where(mask, values, 0) if values.dtype.is_floating else np.zeros(1)
        if not np.isfinite(fixed).all():
            advice = "The mask must be false where a value is unknown."
            raise checks.invalid("`values`", "finite where the mask is true", "NaN", advice)
        self._mask, self._values = tf.constant(mask), values

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x (chains, ...) with the fixed values in place, and others unchanged."""
        x = tf.convert_to_tensor(x)
        for name, part in (("mask", self._mask), ("values", self._values)):
            if tuple(part.shape) not in (tuple(x.shape), tuple(x.shape[1:])):
                raise checks.invalid(
                    f"`{name}` of a clamp",
                    f"of shape {tuple(x.shape[1:])}, an example's, or {tuple(x.shape)}",
                    f"shape {tuple(part.shape)}",
                )
        if self._values.dtype.is_floating and not x.dtype.is_floating:
            raise checks.invalid(
                "`values` of a clamp",
                f"{x.dtype.name}, as the states, which would be rounded",
                self._values.dtype.name,
                kind=TypeError,
            )
        return tf.where(self._mask, tf.cast(self._values, x.dtype), x)


def checked_clamp(clamp: Callable[[tf.Tensor], Any], x: tf.Tensor) -> tf.Tensor:
    """Returns x (chains, ...) projected by a clamp.

    Raises:
        TypeError: the clamp isn't a function.
        ValueError: the clamp changes the shape or dtype, or isn't a projection.
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
