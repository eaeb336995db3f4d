"""The inputs that a model takes, and building a model for them."""

from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure
from thesis_tf._keras.tracing.traced_functions import inlined


def input_spec(model: keras.Model, inputs: Structure | None = None) -> Any:
    """Returns the `tf.TensorSpec`s of the model's inputs, in the structure of its input.

    The batch axis is None unless the model has a fixed batch size.

    Raises:
        ValueError: the model was never built, and no `inputs` were given.
    """
    batch = fixed_batch(model)

    def open_batch(x: Any) -> tf.TensorSpec:
        return tf.TensorSpec((batch, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype))

    if inputs is not None:
        return keras.tree.map_structure(open_batch, inputs)
    if is_functional(model):
        # A Sequential model has no `input` before its first call, but it has `inputs`.
        symbolic = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(open_batch, symbolic)
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape and all(isinstance(n, (int, type(None))) for n in shape):
        return tf.TensorSpec((None, *shape[1:]), model.input_dtype)
    raise ValueError(
        f"The shape of the inputs of model '{model.name}' is unknown: it was not built with a"
        " single tensor. Pass an example of its inputs: inputs=x[:1]."
    )


def fixed_batch(model: keras.Model) -> int | None:
    """Returns the batch size that `model` was made for; None if it takes any."""
    if not is_functional(model):
        return None
    if isinstance(model, keras.Sequential) and not any(
        getattr(layer, "stateful", False) for layer in model._flatten_layers()
    ):
        return None  # the first axis is the size of the first batch with which it was called
    return model.inputs[0].shape[0]


def is_functional(model: keras.Layer) -> bool:
    """Returns whether a model is a graph of layers, functional or Sequential, with known inputs."""
    return bool(getattr(model, "inputs", None))


def build(model: keras.Model, spec: Any) -> None:
    """Builds `model` if it is not built: an unbuilt one calls its layers in a scratch graph."""
    if all(layer.built for layer in model._flatten_layers()):
        return
    strategy = getattr(model, "distribute_strategy", None) or tf.distribute.get_strategy()
    with strategy.scope():
        if (
            isinstance(model, keras.Sequential)
            and not model.built
            and isinstance(spec, tf.TensorSpec)
        ):
            # A call would build it for batches of one size.
            model.build(tuple(spec.shape))
        if not all(layer.built for layer in model._flatten_layers()):
            with keras.StatelessScope(), inlined():
                model(keras.tree.map_structure(_zeros, spec))


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([size or 1 for size in spec.shape], spec.dtype)
