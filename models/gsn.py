"""Dense and convolutional denoising auto-encoders that walkback trains (5.3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from models.dtypes import at_least_float32
from thesis_tf import gsn
from thesis_tf.corruption import Corruption
from thesis_tf.errors import invalid


def walkback_dae(
    input_shape: Sequence[int],
    *,
    units: int = 2000,
    activation: str = "sigmoid",
    corruption: Corruption | None = gsn.SALT_AND_PEPPER,
    walkback: gsn.Walkback | int = 4,
    scaling: bool = False,
    reconstruction: gsn.Reconstruction | None = None,
    seed: int = 0,
    name: str | None = None,
) -> gsn.WalkbackAutoEncoder:
    """The denoising auto-encoder of 5.3.2, 784-2000-784 on MNIST, trained by walkback.

    Args:
        input_shape: the shape of one example.
        units: the number of hidden units.
        activation: the activation of the hidden layer.
        reconstruction: P(x | x~), an object of `thesis_tf.gsn`; None is `Bernoulli()`.
        corruption, walkback, scaling, seed, name: as for `WalkbackAutoEncoder`.

    Returns:
        A `thesis_tf.gsn.WalkbackAutoEncoder`.
    """
    layers = keras.layers
    shape, reconstruction = _parameters(input_shape, reconstruction)
    inputs = keras.Input(input_shape, name="x", dtype=at_least_float32())
    h = layers.Dense(units, activation=activation, name="encoder")(layers.Flatten()(inputs))
    # Distribution parameters in at least float32: a logit in bfloat16 has 8 bits.
    outputs = layers.Dense(math.prod(shape), dtype=at_least_float32(), name="decoder")(h)
    outputs = layers.Reshape(shape, dtype=at_least_float32(), name="parameters")(outputs)
    network = keras.Model(inputs, outputs, name="dae")
    return gsn.WalkbackAutoEncoder(
        network,
        corruption=corruption,
        walkback=walkback,
        scaling=scaling,
        reconstruction=reconstruction,
        seed=seed,
        name=name,
    )


def convolutional_dae(
    input_shape: Sequence[int],
    *,
    filters: Sequence[int] = (32, 64, 128),
    activation: str = "relu",
    corruption: Corruption | None = gsn.SALT_AND_PEPPER,
    walkback: gsn.Walkback | int = 4,
    scaling: bool = False,
    reconstruction: gsn.Reconstruction | None = None,
    seed: int = 0,
    name: str | None = None,
) -> gsn.WalkbackAutoEncoder:
    """A convolutional denoising auto-encoder of images, trained by walkback.

    Each block of the encoder after the first halves height and width, and each block of the decoder
    doubles them and adds the features of the encoder at the same resolution.

    Args:
        input_shape: (height, width, channels); 2^(len(filters) - 1) must divide height and width.
        filters: the number of filters of each block.
        activation: the activation of all blocks.
        reconstruction: P(x | x~); None is `Bernoulli()`.
        corruption, walkback, scaling, seed, name: as for `WalkbackAutoEncoder`.

    Returns:
        A `thesis_tf.gsn.WalkbackAutoEncoder`.

    Raises:
        ValueError: examples are not images, or their sides can't be halved so often.
    """
    layers, halvings = keras.layers, len(filters) - 1
    if len(input_shape) != 3 or any(side % 2**halvings for side in input_shape[:2]):
        raise invalid(
            "`input_shape`",
            f"(height, width, channels) with sides divisible by {2**halvings}",
            tuple(input_shape),
            "Use fewer `filters`." if len(input_shape) == 3 else "Gray images have 1 channel.",
        )
    shape, reconstruction = _parameters(input_shape, reconstruction)
    inputs = keras.Input(input_shape, name="x", dtype=at_least_float32())
    x, seen = inputs, []
    for number, width in enumerate(filters):
        strides = 1 if number == 0 else 2
        x = layers.Conv2D(
            width, 3, strides, padding="same", activation=activation, name=f"up{number}"
        )(x)
        seen.append(x)
    for number, width in reversed(list(enumerate(filters[:-1]))):
        x = layers.Conv2DTranspose(
            width, 3, 2, padding="same", activation=activation, name=f"down{number}"
        )(x)
        x = layers.Add(name=f"sum{number}")([x, seen[number]])
    size = shape[-1] * (shape[-2] if len(shape) == 4 else 1)
    outputs = layers.Conv2D(size, 3, padding="same", dtype=at_least_float32(), name="decoder")(x)
    outputs = layers.Reshape(shape, dtype=at_least_float32(), name="parameters")(outputs)
    network = keras.Model(inputs, outputs, name="convolutional_dae")
    return gsn.WalkbackAutoEncoder(
        network,
        corruption=corruption,
        walkback=walkback,
        scaling=scaling,
        reconstruction=reconstruction,
        seed=seed,
        name=name,
    )


def _parameters(
    input_shape: Sequence[int], reconstruction: gsn.Reconstruction | None
) -> tuple[tuple[int, ...], gsn.Reconstruction]:
    """Returns the shape of one example's distribution parameters, and the reconstruction."""
    reconstruction = reconstruction or gsn.Bernoulli()
    more = () if reconstruction.size == 1 else (reconstruction.size,)
    return (*input_shape, *more), reconstruction
