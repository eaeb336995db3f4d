"""Fallback to two passes of reverse mode if a mode doesn't support a model."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from thesis_tf._core import max_pooling
from thesis_tf._keras.objective import Objective
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.forward_mode import UnsupportedError, check_gradient

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
        return mode, *_traced(kind, mode, objective, specs)
    # `tf.autodiff.ForwardAccumulator` raises errors of many types for loops and branches.
    except Exception as error:
        if mode == FALLBACK:
            raise
        reason = str(error).strip() or type(error).__name__
    # Outside of the block: an error that is not about the mode occurs again here, as the only one.
    traced = _traced(kind, FALLBACK, objective, specs)
    warnings.warn(
        f"Products with {objective.model.name} are computed by {FALLBACK}, as {mode} can't:"
        f" {reason}",
        FallbackWarning,
        stacklevel=stacklevel,
    )
    return FALLBACK, *traced


def _traced(
    kind: modes.MatrixKind, mode: str, objective: Objective, specs: tuple[Any, Any, Any, Any]
) -> tuple[Callable[..., modes.Tensors], Callable[..., "tf.Tensor"]]:
    """Traces a mode; raises UnsupportedError if its graph has what no product can be right with.

    These are operations that overwrite their own inputs, which no comparison of products can find,
    as they differ now and then only, and functions of parameters that have no gradient.
    """
    keep, product = modes.traced(kind.modes[mode](objective), specs)
    for function in (keep, product):
        for operation in _operations(function.graph, set()):
            if max_pooling.overwrites(operation):
                raise UnsupportedError(
                    f"{operation.name} ({operation.type}) was made before this library was"
                    " imported, and TensorFlow computes it wrongly at random"
                )
    _, parameters, _, _ = specs
    moving = {tensor.ref() for tensor in product.graph.inputs[1 : 1 + len(parameters)]}
    for operation in product.graph.get_operations():
        if any(tensor.ref() in moving for tensor in operation.inputs):
            check_gradient(operation)
            moving.update(t.ref() for t in operation.outputs if not t.dtype.is_integer)
    return keep, product


def _operations(graph: Any, seen: set[str]) -> Iterator["tf.Operation"]:
    """Yields the operations of a graph and of the functions that they run."""
    for operation in graph.get_operations():
        yield operation
        for attribute in operation.node_def.attr.values():
            called = [attribute.func] if attribute.HasField("func") else attribute.list.func
            for name in {function.name for function in called} - seen:
                seen.add(name)
                inner = graph._get_function(name)
                if inner is not None and getattr(inner, "graph", None) is not None:
                    yield from _operations(inner.graph, seen)
