import dataclasses

import keras
import numpy as np
import pytest

import models
from bin.common import model_fit
from thesis_tf import datasets
from thesis_tf.datasets import values


def with_heads(outputs, shape):
    inputs = keras.Input(shape)
    heads = [keras.layers.Dense(n, name=f"head{i}")(inputs) for i, n in enumerate(outputs)]
    return keras.Model(inputs, heads if len(heads) > 1 else heads[0], name="mine")


@pytest.mark.parametrize(
    ("outputs", "shape", "message"),
    [
        ([6], (4,), None),
        ([7], (4,), None),
        ([6, 6], (4,), None),
        ([6], (4, 1), r"outputs for the 6 classes of numbers.* shape \(batch, 4, 6\)"),
        (
            [4],
            (4,),
            r"outputs for the 6 classes of numbers\. .* outputs of shape \(batch, 4\)\. It needs",
        ),
        ([6, 5], (4,), r"outputs of shape \(batch, 5\)"),
        ([6], (5,), r"for examples of shape \(4,\), as numbers has.*inputs have shape \(5,\)"),
        ([6], (2, 2), r"for examples of shape \(4,\)"),
    ],
)
def test_a_network_must_fit_the_data(outputs, shape, message):
    part = datasets.Split(np.zeros((6, 4), np.float32), np.arange(6))
    splits = datasets.Splits(part, part, part, tuple("abcdef"), "numbers")
    model = with_heads(outputs, shape)
    if message is None:
        model_fit.check(model, splits)
    else:
        with pytest.raises(ValueError, match=message):
            model_fit.check(model, splits)
    if shape == (4,):
        model_fit.check(model, splits, labels=False)
    model_fit.check(keras.Sequential([keras.layers.Dense(2)]), splits)  # not built yet


@pytest.mark.parametrize(
    ("scale", "offset", "white", "is_right"),
    [
        (1 / 255, 0, 255, True),
        (1 / 255, 0, 1, False),
        (1 / 127.5, -1, 255, True),
        (1 / 127.5, -1, 1, False),
        (1, 0, 1, True),
        (1, 0, 255, False),
        (1 / 65535, 0, 65535, True),
        (1 / 65535, 0, 255, False),
        ([1 / 58.4, 1 / 57.1, 1 / 57.4], [-2, -2, -2], 255, True),  # by ImageNet's deviations
        ([1 / 58.4, 1 / 57.1, 1 / 57.4], [-2, -2, -2], 1, False),
    ],
)
def test_a_network_of_ones_own_must_have_the_scale_of_the_pixels(scale, offset, white, is_right):
    x = np.linspace(0, white, 6 * 12).reshape(6, 2, 2, 3).astype(np.float32)
    part = datasets.Split(x, np.arange(6) % 2)
    pixels = values.ValueRange(0, white, "float32", pixels=(0, white))
    splits = datasets.Splits(part, part, part, ("a", "b"), "colors", values=pixels)
    layers = keras.layers
    model = keras.Sequential([keras.Input((2, 2, 3)), layers.Rescaling(scale, offset)])
    model = keras.Sequential([*model.layers, layers.Flatten(), layers.Dense(2)])
    if is_right:
        model_fit.check(model, splits)
    else:
        with pytest.raises(ValueError, match="`model` must be a network for pixels from 0 to"):
            model_fit.check(model, splits)
    no_pixels = dataclasses.replace(splits, values=dataclasses.replace(pixels, pixels=None))
    model_fit.check(model, no_pixels)


@pytest.mark.parametrize("value_range", [(0, 255), (0, 1), (-1, 1), (0, 65535)])
@pytest.mark.parametrize("name", ["mlp", "mnist_convnet", "vgg16"])
def test_networks_of_the_registry_have_the_scale_of_their_pixels(name, value_range):
    part = datasets.Split(np.zeros((4, 32, 32, 3), np.float32), np.arange(4) % 2)
    pixels = values.ValueRange(*value_range, "float32", pixels=value_range)
    splits = datasets.Splits(part, part, part, ("a", "b"), "colors", values=pixels)
    options = {"image_size": 32, "preprocessing": "tf"} if name == "vgg16" else {}
    model = models.build(name, (32, 32, 3), 2, value_range=value_range, **options)
    model_fit.check(model, splits)
    other = (0.0, 255.0) if value_range != (0, 255) else (0.0, 1.0)
    moved = dataclasses.replace(splits, values=dataclasses.replace(pixels, pixels=other))
    with pytest.raises(ValueError, match="`model` must be a network for pixels from 0 to"):
        model_fit.check(model, moved)
