"""Multi-layer perceptrons, among them the 128 x 128 network of figure 9.6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from models import pixels


def mlp(
    input_shape: Sequence[int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    units: Sequence[int] = (512, 512),
    activation: str = "relu",
    kernel_initializer: str | dict[str, Any] = "glorot_uniform",
    value_range: pixels.ValueRange = pixels.BYTES,
    name: str = "mlp",
) -> keras.Model:
    """A multi-layer perceptron on flattened inputs; activations are separate layers.

    Args:
        input_shape: the shape of one example.
        num_classes: the number of classes.
        units: the width of each hidden layer.
        activation: the name of a Keras activation.
        kernel_initializer: the initializer of every dense layer, a name or a config.
        value_range: the values of black and white, which become 0 and 1; None for inputs that are
            no pixels, which aren't scaled.
        name: the model's name.

    Returns:
        A functional model from inputs (batch, *input_shape) to logits (batch, num_classes).
    """
    layers = keras.layers
    inputs = keras.Input(input_shape, name="image")
    x = layers.Flatten(name="flatten")(pixels.to_unit(value_range)(inputs))
    for index, width in enumerate(units, 1):
        x = layers.Dense(width, kernel_initializer=kernel_initializer, name=f"fc{index}")(x)
        x = layers.Activation(activation, name=f"fc{index}_{activation}")(x)
    logits = layers.Dense(
        num_classes, kernel_initializer=kernel_initializer, dtype="float32", name="logits"
    )(x)
    return keras.Model(inputs, logits, name=name)


def issgd_mlp(
    input_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    value_range: pixels.ValueRange = pixels.BYTES,
    name: str = "issgd_mlp",
) -> keras.Model:
    """The permutation-invariant network of chapter 7: four layers of 2,048 rectifiers.

    Initial weights are drawn from N(0, .01^2), as in the original code. With 32 x 32 x 3 inputs it
    has 18,903,050 parameters, 76 MB.

    Args:
        input_shape: the shape of one example.
        num_classes: the number of classes.
        value_range: as for `mlp`.
        name: the model's name.

    Returns:
        A functional model from inputs (batch, *input_shape) to logits (batch, num_classes).
    """
    # A config, since one instance would give all layers of the same shape the same weights.
    small = {"class_name": "RandomNormal", "config": {"stddev": 0.01}}
    return mlp(
        input_shape,
        num_classes,
        units=(2048,) * 4,
        kernel_initializer=small,
        value_range=value_range,
        name=name,
    )


def skip_mlp(
    input_shape: Sequence[int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    depth: int = 128,
    width: int = 128,
    skip: int = 64,
    value_range: pixels.ValueRange = pixels.BYTES,
    name: str = "skip_mlp",
) -> keras.Model:
    """The pathologically deep network of figure 9.6: 128 layers of 128 units, one skip connection.

    The output of layer 1 is added to that of layer `skip`, so the upper half can be trained
    although nothing useful passes through the lower half.

    Args:
        input_shape: the shape of one example.
        num_classes: the number of classes.
        depth: the number of hidden layers.
        width: the number of units of each layer.
        skip: the layer to whose output the skip connection adds; 0 for none.
        value_range: as for `mlp`.
        name: the model's name.

    Returns:
        A functional model from inputs (batch, *input_shape) to logits (batch, num_classes).
    """
    layers = keras.layers
    inputs = keras.Input(input_shape, name="image")
    x = layers.Flatten(name="flatten")(pixels.to_unit(value_range)(inputs))
    first = None
    for index in range(1, depth + 1):
        x = layers.Dense(width, name=f"fc{index:03d}")(x)
        x = layers.LeakyReLU(0.5, name=f"fc{index:03d}_relu")(x)
        first = x if first is None else first
        if index == skip:
            x = layers.Add(name="skip")([x, first])
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name)
