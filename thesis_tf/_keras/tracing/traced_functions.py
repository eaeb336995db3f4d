"""Functions that TensorFlow has compiled, inside a model that is called with other weights.

A `tf.function` keeps the graph of its first call. Under a `keras.StatelessScope`, this graph has
the tensors of the first scope, or the variables themselves, so that the weights of a later scope
have no effect and no gradient. Under `inlined`, the Python function runs in place of its graph.
What can't be inlined, such as a `ConcreteFunction`, is found by `check_reads`.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.eager.polymorphic_function import autograph_util

_Function: Any = type(tf.function(lambda: None))
_thread = threading.local()
_lock = threading.Lock()
_users = 0
_original_call = _Function.__call__


@contextlib.contextmanager
def inlined() -> Iterator[None]:
    """Traces each `tf.function` that this thread calls in the block anew, as part of the caller.

    The graph that is being traced is as if the functions were not decorated, except for those that
    XLA compiles. Graphs that they keep are neither used nor added.
    """
    global _users, _original_call
    outer = getattr(_thread, "inlines", False)
    with _lock:
        if _users == 0:
            _original_call = _Function.__call__
            _Function.__call__ = _call
        _users += 1
    _thread.inlines = True
    try:
        yield
    finally:
        _thread.inlines = outer
        with _lock:
            _users -= 1
            if _users == 0:
                _Function.__call__ = _original_call


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    if not getattr(_thread, "inlines", False):
        return _original_call(self, *args, **kwargs)
    if tf.executing_eagerly() or self._jit_compile:
        # A new one, which keeps nothing for later calls: `tf.vectorized_map` can't do without one
        # eagerly, and some operations exist in XLA only (Keras' grouped convolutions on CPUs).
        fresh = tf.function(
            self.python_function, autograph=self._autograph, jit_compile=self._jit_compile
        )
        return _original_call(fresh, *args, **kwargs)
    args, kwargs = keras.tree.map_structure(
        lambda leaf: tf.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf,
        (args, kwargs),
    )
    if not self._autograph:
        return self.python_function(*args, **kwargs)
    options = self._experimental_autograph_options
    with ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED, options):
        return autograph_util.py_func_from_autograph(self.python_function, options)(*args, **kwargs)


@contextlib.contextmanager
def check_reads(
    variables: Iterable["keras.Variable"], *, who: str, consequence: str
) -> Iterator[None]:
    """Raises ValueError if the graph that is traced in the block reads variables themselves.

    Args:
        variables: variables for which tensors stand in the block.
        who: what reads them, the subject of the message.
        consequence: the end of the message, what is wrong about it and what to do.
    """
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    yield
    found = _first_read(graph, graph.get_operations()[before:], variables)
    if found is not None:
        operation, variable = found
        raise ValueError(f"{who} reads {variable.path} itself ({operation.name}){consequence}")


def _first_read(
    graph: Any, operations: Iterable["tf.Operation"], variables: Iterable["keras.Variable"]
) -> "tuple[tf.Operation, keras.Variable] | None":
    """Returns the first of a graph's operations that reads one of the variables itself, and it."""
    handles = {id(handle): v for v in variables for handle in _handles(v.value)}
    captured = {id(inner): id(outer) for outer, inner in graph.captures}
    for operation in operations:
        for tensor in operation.inputs:
            variable = handles.get(captured.get(id(tensor), id(tensor)))
            if variable is not None:
                return operation, variable
    return None


def _handles(value: Any) -> list[Any]:
    """Returns the resource handles of a variable: one on each device."""
    return [part.handle for part in getattr(value, "values", [value])]
