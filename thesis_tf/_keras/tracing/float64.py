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
    # Sub-models cast what they are called with to the dtypes of their symbolic inputs.
    inputs = {id(part): part for layer in layers for part in _symbolic_inputs(layer)}
    names = {key: "_dtype" if "_dtype" in vars(part) else "dtype" for key, part in inputs.items()}
    dtypes = {key: getattr(part, names[key]) for key, part in inputs.items()}
    default = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float64")  # of layers that are made in `call`
        for layer in layers:
            layer.dtype_policy = "float64"
        for key, part in inputs.items():
            if tf.as_dtype(dtypes[key]).is_floating:
                setattr(part, names[key], "float64")
        yield
    finally:
        keras.config.set_dtype_policy(default)
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        for key, part in inputs.items():
            setattr(part, names[key], dtypes[key])


def _symbolic_inputs(layer: keras.Layer) -> list[Any]:
    """Returns the objects that have the dtypes of a model's inputs."""
    if isinstance(layer, keras.layers.InputLayer):
        return [layer]
    graph = getattr(layer, "_functional", None) or layer
    return list(graph._inputs) if isinstance(graph, keras.Function) else []
