"""Fallback to two passes of reverse mode if a mode doesn't support a model."""

import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.forward_mode import UnsupportedError

FALLBACK = "reverse_over_reverse"
# The errors for operations without a derivative: this library's and those of TensorFlow.
NO_DERIVATIVE = (UnsupportedError, LookupError, NotImplementedError)


class FallbackWarning(UserWarning):
    """Products are computed in another mode than the requested one."""


def traced_with_fallback(
    kind: modes.MatrixKind,
    mode: str,
    objective: Objective,
    specs: tuple[Any, Any, Any, Any],
    *,
    stacklevel: int,
) -> tuple[str, Callable[..., modes.Tensors], Callable[..., "tf.Tensor"]]:
    """Traces a mode; if it doesn't support the model, warns and traces reverse over reverse mode.

    Args:
        kind: `modes.HESSIAN` or `modes.GAUSS_NEWTON`.
        mode: a name in `kind.modes`.
        objective: the model and its loss.
        specs: as for `modes.traced`.
        stacklevel: the stack level of the warning, 2 for the caller of this function.

    Returns:
        (the mode that is used, keep, product).

    Raises:
        UnsupportedError, LookupError, NotImplementedError: reverse mode doesn't support it either.
    """
    try:
        return mode, *modes.traced(kind.modes[mode](objective), specs)
    except NO_DERIVATIVE as error:
        if mode == FALLBACK:
            raise
        warnings.warn(
            f"Products with {objective.model.name} are computed by {FALLBACK}, as {mode} can't:"
            f" {error}",
            FallbackWarning,
            stacklevel=stacklevel,
        )
    return FALLBACK, *modes.traced(kind.modes[FALLBACK](objective), specs)
