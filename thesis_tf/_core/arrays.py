"""Checks and conversions for functions of points x and reconstructions r(x)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import TensorLike


def checked_points(
    name: str, x: TensorLike, like: tf.Tensor | None = None, at_least: int = 0
) -> tf.Tensor:
    """Returns points (n, ...) as a tensor of the same floating dtype.

    Args:
        name: the argument as the caller wrote it.
        x: an array or a tensor; it is checked for NaN and infinity, but not during tracing.
        like: other points with the required shape and dtype.
        at_least: the minimum number of points.

    Raises:
        TypeError: the dtype is not a floating dtype.
        ValueError: the points aren't finite, have a rank below 2, or differ from `like`.
    """
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        advice = "Convert it: tf.cast(x, tf.float32)."
        raise checks.invalid(name, "of a floating dtype", x.dtype.name, advice, kind=TypeError)
    if x.shape.rank is not None and x.shape.rank < 2:
        advice = "Give one point of d values the shape (1, d), n numbers the shape (n, 1)."
        raise checks.invalid(name, "of shape (n, ...)", f"shape {tuple(x.shape)}", advice)
    if like is not None and not (x.dtype == like.dtype and x.shape.is_compatible_with(like.shape)):
        raise checks.invalid(
            name,
            f"{like.dtype.name} of shape {tuple(like.shape)}, like the other points",
            f"{x.dtype.name} of shape {tuple(x.shape)}",
        )
    if x.shape[0] is not None and x.shape[0] < at_least:
        raise checks.invalid(name, f"at least {at_least} point", f"{x.shape[0]}")
    if tf.executing_eagerly():
        bad = np.flatnonzero(~tf.reduce_all(tf.math.is_finite(flat(x)), axis=1).numpy())
        if len(bad):
            received = f"NaN or infinity in {len(bad)} of {len(x)}, the first at {bad[0]}"
            raise checks.invalid(name, "finite points", received)
    return x


def stateless_seed(seed: Any) -> tf.Tensor:
    """Returns a seed as a pair of int32: an integer n < 2^32 is (0, n).

    For a larger n, the lower 32 bits are the second number. A tensor is already such a pair.

    Raises:
        TypeError, ValueError: it isn't an integer in [0, 2^64).
    """
    if isinstance(seed, tf.Tensor):
        return seed
    high, low = divmod(seeds.checked_seed(seed), 1 << 32)
    if high >= 1 << 32:
        raise checks.invalid("`seed`", "below 2^64", seed)
    return tf.constant(np.array([high, low], np.uint32).astype(np.int32))


def flat(x: tf.Tensor) -> tf.Tensor:
    """Reshapes (n, ...) to (n, d)."""
    return tf.reshape(x, [tf.shape(x)[0], int(np.prod(x.shape[1:]))])


def reconstruction(reconstruct: Callable[[tf.Tensor], Any], x: tf.Tensor) -> tf.Tensor:
    """Returns r(x) in the dtype of x (n, ...); raises unless it has the shape of x."""
    r = tf.convert_to_tensor(reconstruct(x))
    if not r.dtype.is_floating or not r.shape.is_compatible_with(x.shape):
        raise checks.invalid(
            "The reconstruction r(x)",
            f"of a floating dtype and the shape of x, {tuple(x.shape)}",
            f"{r.dtype.name} of shape {tuple(r.shape)}",
            "Pass a model or a function from points (n, ...) to points of the same shape.",
        )
    return tf.cast(r, x.dtype)


def compiled(
    function: Callable[..., Any], *, jit_compile: bool = False, batch_axes: int = 1
) -> Callable[..., Any]:
    """Returns a compiled function of points of a fixed shape, for any number of points.

    A plain `tf.function` would generalize the shape of points after two different shapes.

    Args:
        function: a function of points (n, ...) and optional further arguments.
        jit_compile: whether XLA compiles it.
        batch_axes: the number of leading axes that are batch axes.
    """
    of_shape = {}

    def call(x: tf.Tensor, *rest: Any) -> Any:
        key = tuple(x.shape[batch_axes:]), x.dtype
        if key not in of_shape:
            # Without AutoGraph, errors keep their one-line messages.
            of_shape[key] = tf.function(
                function, jit_compile=jit_compile, reduce_retracing=True, autograph=False
            )
        return of_shape[key](x, *rest)

    return call
