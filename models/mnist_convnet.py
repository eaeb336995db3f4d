"""The MNIST convolutional network of figure 9.2, and the LeNet of chapter 11."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from models import pixels
from thesis_tf.errors import invalid


def mnist_convnet(
    input_shape: Sequence[int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    units: int = 512,
    value_range: pixels.ValueRange = pixels.BYTES,
    name: str = "mnist_convnet",
) -> keras.Model:
    """Two 5x5 convolutions and two dense layers, with every operation as a separate layer.

    Activations, pooling and the scaling of pixels are separate layers, so each can be tapped. With
    `units=1024` this is chapter 11's LeNet: 3,274,634 parameters at 28 x 28 x 1.

    Args:
        input_shape: (height, width, channels) of images.
        num_classes: the number of classes.
        units: the width of the first dense layer.
        value_range: the values of black and white, which become 0 and 1; None for inputs that are
            no pixels, which aren't scaled.
        name: the model's name.

    Returns:
        A functional model from images (batch, height, width, channels) to logits
        (batch, num_classes).

    Raises:
        ValueError: examples have another shape, or a side has fewer than 4 pixels.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 4:
        raise invalid(
            "`input_shape`",
            f"(height, width, channels) for {name}, of at least 4 x 4 pixels",
            tuple(input_shape),
        )
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            pixels.to_unit(value_range),
            layers.Conv2D(32, 5, padding="same", name="conv1"),
            layers.ReLU(name="conv1_relu"),
            layers.MaxPooling2D(2, name="conv1_pool"),
            layers.Conv2D(64, 5, padding="same", name="conv2"),
            layers.ReLU(name="conv2_relu"),
            layers.MaxPooling2D(2, name="conv2_pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(units, name="fc1"),
            layers.ReLU(name="fc1_relu"),
            layers.Dense(num_classes, dtype="float32", name="logits"),
        ],
        name=name,
    )
