"""Records the output of every layer call and `keras.ops` node while a function is being traced.

A sub-model with `layer.output` fails for nested models and returns only the first call of a shared
layer, and an instance's `__call__` cannot be patched. All Keras 3 layers and operations use
`keras.Operation.__call__`. It is replaced while at least one thread traces under `watch`, affects
only calls of such threads, and is restored afterward. The traced graph is the same with and without
it, so running the graph has no extra cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """One tensor that a call returned.

    Attributes:
        name: the path of the call, with its number and the tensor's index where there are several.
        operation: the layer or operation that was called.
        tensor: the tensor.
        arguments: the arguments of the call, (args, kwargs); None for the model's inputs and
            outputs.
        mask: the Keras mask that the tensor had when its call had ended; None if it had none. The
            tensor itself may lose it later: `MultiHeadAttention` takes it from its inputs.
    """

    name: str
    operation: keras.Operation
    tensor: tf.Tensor
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    mask: Any = None


class Recorder:
    """The tensors that the calls during one tracing returned, in the order in which calls ended.

    Attributes:
        places: a list of `Place`. The masks of the last call are there when the next begins, or
            after `record_root`.
        out_of_reach: a dict from path to operation of the calls whose tensors can't be read.
        outputs: the model's outputs, set by the caller of the model.
    """

    def __init__(self, root: keras.Operation) -> None:
        self.places: list[Place] = []
        self.out_of_reach: dict[str, keras.Operation] = {}
        self.outputs: Any = None
        self._root = root
        self._graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        self._stack: list[keras.Operation] = []
        self._calls: dict[str, int] = {}
        self._masks: dict[int, Any] = {}
        self._read = 0  # the number of places whose masks have been read

    def record_root(self, name: str, tensors: Any) -> None:
        """Adds the model's inputs or outputs: `name`, or "name/KEY" where there are several."""
        leaves = keras.tree.flatten_with_path(tensors)
        for path, tensor in leaves:
            key = "/".join([name, *map(str, path)]) if len(leaves) > 1 else name
            self._calls[key] = self._calls.get(key, 0) + 1
            self.places.append(Place(key, self._root, tensor))
        self._read_masks()

    def _read_masks(self) -> None:
        """Reads the masks of new places. A layer sets them after the call that is watched."""
        for index in range(self._read, len(self.places)):
            place = self.places[index]
            mask = getattr(place.tensor, "_keras_mask", None)
            if mask is None:  # a layer that returns its input may do so after the mask was taken
                mask = self._masks.get(id(place.tensor))
            if mask is not None:
                self._masks[id(place.tensor)] = mask
                self.places[index] = dataclasses.replace(place, mask=mask)
        self._read = len(self.places)

    def call(
        self,
        original: Callable[..., Any],
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Runs one call and records the tensors that it returns."""
        self._read_masks()
        if operation is self._root:
            return original(operation, *args, **kwargs)
        # A recurrent layer also calls its cells outside of its loop, only to determine shapes.
        in_loop = any(isinstance(o, keras.layers.RNN) and not o.unroll for o in self._stack)
        self._stack.append(operation)
        path = "/".join(o.name for o in self._stack)
        try:
            outputs = original(operation, *args, **kwargs)
        finally:
            self._stack.pop()
        tensors = [leaf for leaf in keras.tree.flatten(outputs) if isinstance(leaf, tf.Tensor)]
        # Tensors in a loop's body, a branch or a nested function belong to another graph.
        here = [t for t in tensors if getattr(t, "graph", None) is self._graph and not in_loop]
        if tensors and not here:
            self.out_of_reach[path] = operation
        if here:
            self._calls[path] = number = self._calls.get(path, 0) + 1
            name = f"{path}#{number}" if number > 1 else path
            for index, tensor in enumerate(here):
                key = f"{name}:{index}" if len(here) > 1 else name
                self.places.append(Place(key, operation, tensor, (args, kwargs)))
        return outputs


_thread = threading.local()
_lock = threading.Lock()
_watchers = 0
_original_call = keras.Operation.__call__


class Caller(Protocol):
    """An object that `recording` passes calls through."""

    def call(
        self,
        original: Callable[..., Any],
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Returns `original(operation, *args, **kwargs)`."""


C = TypeVar("C", bound=Caller)


def _watched_call(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
    recorder = getattr(_thread, "recorder", None)
    if recorder is None:
        return _original_call(self, *args, **kwargs)
    return recorder.call(_original_call, self, args, kwargs)


def watch(model: keras.Model) -> contextlib.AbstractContextManager[Recorder]:
    """Records the calls that `model` makes in this thread while the block runs.

    Use it inside a `tf.function`, where it has no cost after tracing, and with a built model: an
    unbuilt model first calls its layers in a scratch graph. Other threads are not affected, and
    several threads may watch at the same time, such as the replicas of a `tf.distribute` strategy.

    Yields:
        The `Recorder`; its `places` are complete when the block ends.
    """
    return recording(Recorder(model))


@contextlib.contextmanager
def recording(recorder: C) -> Iterator[C]:
    """Passes every call in this thread through `recorder.call`, as `watch` does; yields it.

    Args:
        recorder: has a method `call(original, operation, args, kwargs)` that returns
            `original(operation, *args, **kwargs)`.
    """
    global _watchers, _original_call
    outer = getattr(_thread, "recorder", None)
    with _lock:
        if _watchers == 0:
            _original_call = keras.Operation.__call__
            keras.Operation.__call__ = _watched_call
        _watchers += 1
    _thread.recorder = recorder
    try:
        yield recorder
    finally:
        _thread.recorder = outer
        with _lock:
            _watchers -= 1
            if _watchers == 0:
                keras.Operation.__call__ = _original_call


def forward(model: keras.Model, x: Any) -> Recorder:
    """Runs `model` statelessly on graph tensors and returns the recorder, with `.outputs`."""
    # A call first clears the losses of the previous call, even in a stateless scope.
    losses = [(layer, list(layer._losses)) for layer in model._flatten_layers()]
    try:
        # `model.stateless_call` would omit the casts and the autocast scope around `call`.
        with keras.StatelessScope(), watch(model) as recorder:
            recorder.record_root("input", x)
            recorder.outputs = model(x, training=False)
            recorder.record_root("output", recorder.outputs)
    finally:
        for layer, before in losses:
            layer._losses[:] = before
    return recorder


def record_pass(model: keras.Model, spec: Any) -> Recorder:
    """Traces one inference pass of a built model and returns its recorder.

    Args:
        model: the model.
        spec: the `tf.TensorSpec`s of its inputs, as `inputs.input_spec` returns them.
    """
    recorders: list[Recorder] = []

    @tf.function(input_signature=[spec], autograph=False)
    def record(x: Any) -> None:
        recorders.append(forward(model, x))

    record.get_concrete_function()
    return recorders[-1]
