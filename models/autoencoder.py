"""Auto-encoders with one hidden layer, from inputs to reconstructions of the same shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from models.dtypes import at_least_float32


def autoencoder(
    input_shape: Sequence[int],
    *,
    units: int = 1000,
    activation: str = "tanh",
    output: str = "linear",
    dtype: str | None = None,
    name: str = "autoencoder",
) -> keras.Model:
    """The auto-encoder of the thesis' experiments: r(x) = c + V tanh(b + W x) (3.3.4).

    Args:
        input_shape: the shape of one example; inputs are flattened and outputs reshaped to it.
        units: the number of hidden units.
        activation: the name of the hidden layer's Keras activation.
        output: the activation of the output: "linear", or "sigmoid" for values in [0, 1].
        dtype: the dtype policy of the layers; None uses Keras' global policy.
        name: the model's name.

    Returns:
        A functional model from (batch, *input_shape) to (batch, *input_shape) whose layers
        "encoder" and "decoder" are `Dense`.
    """
    layers, size = keras.layers, math.prod(input_shape)
    dtype = dtype or keras.config.dtype_policy().name
    inputs = keras.Input(input_shape, name="x", dtype=at_least_float32(dtype))
    x = layers.Flatten(name="flatten", dtype=dtype)(inputs) if len(input_shape) > 1 else inputs
    # The decoder computes at least in float32: rounding to bfloat16 would exceed r(x) - x.
    h = layers.Dense(units, activation=activation, dtype=dtype, name="encoder")(x)
    r = layers.Dense(size, activation=output, dtype=at_least_float32(dtype), name="decoder")(h)
    if len(input_shape) > 1:
        r = layers.Reshape(input_shape, dtype=at_least_float32(dtype), name="reconstruction")(r)
    return keras.Model(inputs, r, name=name)


def tied_autoencoder(
    input_shape: Sequence[int],
    *,
    units: int = 1000,
    activation: str = "sigmoid",
    output: str = "sigmoid",
    dtype: str | None = None,
    name: str = "tied",
) -> keras.Model:
    """The contractive auto-encoder's network: r(x) = s(c + W' h), h = s(b + W x) (Eq 3.1).

    Args:
        input_shape: the shape of one example.
        units: the number of hidden units.
        activation: the activation of the hidden layer; "tanh" gives the tied DAE.
        output: the activation of the output: "sigmoid" for values in [0, 1], or "linear".
        dtype: the dtype policy of the layers; None uses Keras' global policy.
        name: the model's name.

    Returns:
        A functional model from (batch, *input_shape) to (batch, *input_shape) with one layer,
        `TiedAutoEncoder`, named "tied", whose `encode` can be passed to a contractive criterion.
    """
    dtype = dtype or keras.config.dtype_policy().name
    inputs = keras.Input(input_shape, name="x", dtype=at_least_float32(dtype))
    layer = TiedAutoEncoder(units, activation=activation, output=output, dtype=dtype, name="tied")
    return keras.Model(inputs, layer(inputs), name=name)


@keras.saving.register_keras_serializable(package="thesis_tf")
class TiedAutoEncoder(keras.layers.Layer):
    """An encoder, and a decoder that uses the transposed weights of the encoder.

    Args:
        units: the number of hidden units.
        activation: the activation of the hidden units.
        output: the activation of the outputs.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.
    """

    def __init__(
        self, units: int, *, activation: str = "sigmoid", output: str = "sigmoid", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation, self.output_activation = map(keras.activations.get, (activation, output))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the kernel (d, units) and the biases of encoder (units,) and decoder (d,)."""
        self.example_shape = tuple(int(side or 0) for side in input_shape[1:])
        size = math.prod(self.example_shape)
        self.kernel = self.add_weight(shape=(size, self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.decoder_bias = self.add_weight(shape=(size,), initializer="zeros", name="decoder_bias")

    def encode(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns h (batch, units) of inputs (batch, ...)."""
        x = keras.ops.reshape(keras.ops.cast(x, self.compute_dtype), (-1, self.kernel.shape[0]))
        return self.activation(keras.ops.matmul(x, self._used(self.kernel)) + self._used(self.bias))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the reconstructions of inputs (batch, ...)."""
        kernel = keras.ops.transpose(self._used(self.kernel))
        r = keras.ops.matmul(self.encode(x), kernel) + self._used(self.decoder_bias)
        r = self.output_activation(keras.ops.cast(r, at_least_float32(self.variable_dtype)))
        return keras.ops.reshape(r, (-1, *self.example_shape))

    def _used(self, variable: keras.Variable) -> keras.KerasTensor:
        # Outside `call`, Keras doesn't cast variables to the compute dtype.
        return keras.ops.cast(variable, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "output": keras.activations.serialize(self.output_activation),
        }
