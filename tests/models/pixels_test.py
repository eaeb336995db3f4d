import keras
import numpy as np
import pytest

import models
from models import pixels
from thesis_tf import datasets

UNIT = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1)) / 255
UNIT[0, 0, :2, 0] = 0, 1
LABELS = np.arange(40) % 3
# The same images as they may be stored: (examples, what the caller tells).
FORMS = {
    "uint8": (np.rint(UNIT * 255).astype(np.uint8), None),
    "int64": (np.rint(UNIT * 255).astype(np.int64), None),
    "uint16": (np.rint(UNIT * 65535).astype(np.uint16), None),
    "float in [0, 1]": (UNIT, None),
    "float32 in [0, 1]": (UNIT.astype(np.float32), None),
    "float in [0, 255]": (UNIT * 255, None),
    "float in [0, 16]": (UNIT * 16, (0, 16)),
    "float in [-1, 1]": (UNIT * 2 - 1, (-1, 1)),
}


def splits_of(tmp_path, x, value_range=None):
    np.savez(tmp_path / "a.npz", x_train=x, y_train=LABELS)
    return datasets.load(tmp_path / "a.npz", value_range=value_range)


@pytest.mark.parametrize("name", ["mlp", "mnist_convnet", "skip_mlp"])
@pytest.mark.parametrize("form", FORMS)
def test_a_network_gets_the_same_pixels_however_they_are_stored(tmp_path, name, form):
    x, told = FORMS[form]
    splits = splits_of(tmp_path, x, told)
    model = models.build(name, x.shape[1:], 3, value_range=splits.values.known_pixels())
    scaled = keras.Model(model.inputs, model.get_layer("pixels").output)
    found = scaled.predict(splits.test.x, verbose=0)
    np.testing.assert_allclose(found, UNIT[splits.test.rows], atol=3e-7)


def test_bytes_are_scaled_as_ever():
    model = models.build("mlp", (6, 6, 1), 3)
    config = model.get_layer("pixels").get_config()
    assert (config["scale"], config["offset"]) == (1 / 255, 0.0)
    x = np.arange(256, dtype=np.uint8).reshape(1, -1)
    found = keras.ops.convert_to_numpy(pixels.to_unit((0, 255))(x))
    np.testing.assert_array_equal(found, x.astype(np.float32) * np.float32(1 / 255))


def test_values_that_are_no_pixels_are_not_scaled(tmp_path):
    x = (UNIT - UNIT.mean()) / UNIT.std()
    splits = splits_of(tmp_path, x)
    layer = pixels.to_unit(splits.values.known_pixels())
    found = keras.ops.convert_to_numpy(layer(splits.test.x.astype(np.float32)))
    np.testing.assert_array_equal(found, splits.test.x.astype(np.float32))


@pytest.mark.parametrize("preprocessing", ["caffe", "tf", "unit"])
@pytest.mark.parametrize("form", ["uint16", "float in [0, 1]", "float in [-1, 1]"])
def test_a_backbone_gets_the_same_pixels(monkeypatch, preprocessing, form):
    from models import backbones

    x, told = FORMS[form]
    pixels_of = {"uint16": (0, 65535), "float in [0, 1]": (0, 1)}.get(form, told)

    def scaled(value_range):
        inputs = keras.Input((6, 6, 1))
        layer = pixels.to_bytes(value_range)
        return keras.Model(
            inputs,
            backbones._preprocess(inputs if layer is None else layer(inputs), 6, preprocessing),
        )

    found = scaled(pixels_of).predict(x, verbose=0)
    expected = scaled((0, 255)).predict(FORMS["uint8"][0], verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_backbone_takes_pixels_alone():
    with pytest.raises(ValueError, match=r"`value_range` must be \(black, white\) for a network"):
        models.build("vgg16", (32, 32, 3), 3, image_size=32, value_range=None)
    with pytest.raises(ValueError, match="black < white"):
        models.build("mlp", (4,), 3, value_range=(1, 0))
    assert pixels.to_bytes(pixels.BYTES) is None
