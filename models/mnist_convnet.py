"""The MNIST convolutional network of figure 9.2, and the LeNet of chapter 11."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from thesis_tf.errors import invalid


def mnist_convnet(
    input_shape: Sequence[int] = (28, 28, 1),
    num_classes: int = 10,
    *,
    units: int = 512,
    name: str = "mnist_convnet",
) -> keras.Model:
    """Two 5x5 convolutions and two dense layers, with every operation as a separate layer.

    Activations, pooling and the scaling of pixels are separate layers, so each can be tapped. With
    `units=1024` this is chapter 11's LeNet: 3,274,634 parameters at 28 x 28 x 1.

    Args:
        input_shape: (height, width, channels) of images with pixels in [0, 255].
        num_classes: the number of classes.
        units: the width of the first dense layer.
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
            layers.Rescaling(1 / 255, name="pixels"),
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
