"""A model that computes in float64 for a while, whatever its layers' dtype policies."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


@contextlib.contextmanager
def in_float64(model: keras.Model) -> Iterator[None]:
    """Lets every layer of a model compute in float64 while the block traces or runs it."""
    layers = list(model._flatten_layers())
    policies = [layer.dtype_policy for layer in layers]
    inputs = {id(t): t for layer in layers for t in _symbolic_inputs(layer)}
    # An attribute with an underscore since Keras 3.11.
    name = "_dtype" if all("_dtype" in vars(t) for t in inputs.values()) else "dtype"
    dtypes = {key: t.dtype for key, t in inputs.items()}
    default = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float64")  # of layers that are made in `call`
        for layer in layers:
            layer.dtype_policy = "float64"
        for key, tensor in inputs.items():
            if tf.as_dtype(dtypes[key]).is_floating:
                setattr(tensor, name, "float64")
        yield
    finally:
        keras.config.set_dtype_policy(default)
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        for key, tensor in inputs.items():
            setattr(tensor, name, dtypes[key])


def _symbolic_inputs(layer: keras.Layer) -> list[Any]:
    """Returns the inputs of a graph of layers, to whose dtypes it casts what it is called with."""
    graph = getattr(layer, "_functional", None) or layer
    return list(graph._inputs) if isinstance(graph, keras.Function) else []
