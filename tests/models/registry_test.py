import keras
import numpy as np
import pytest

import models


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_convnet", "lenet", "mlp", "skip_mlp"])
def test_plain_networks_put_out_logits(name):
    model = models.build(name, (28, 28, 1), 10)
    logits = model(np.zeros((2, 28, 28, 1)))
    assert logits.shape == (2, 10)
    assert logits.dtype == "float32"


def test_lenet_has_the_parameters_of_chapter_11():
    assert models.build("lenet", (28, 28, 1), 10).count_params() == 3_274_634


@pytest.mark.slow
def test_skip_joins_layer_64():
    model = models.build("skip_mlp", (28, 28, 1), 10)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert len(dense) == 129
    assert all(layer.units == 128 for layer in dense[:-1])
    joined = {tensor._keras_history.operation.name for tensor in model.get_layer("skip").input}
    assert joined == {"fc001_relu", "fc064_relu"}


def test_logits_stay_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build("mnist_convnet", (28, 28, 1), 10)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("conv2").compute_dtype == "bfloat16"
    assert model(np.zeros((1, 28, 28, 1))).dtype == "float32"


def test_weights_round_trip_and_say_how_many_classes(tmp_path):
    model = models.build("mnist_convnet", (28, 28, 1), 7)
    model.save_weights(tmp_path / "own.weights.h5")
    loaded = models.build(
        "mnist_convnet", (28, 28, 1), None, weights=str(tmp_path / "own.weights.h5")
    )
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_keras_file(tmp_path):
    model = models.build("mlp", (4,), 3)
    model.save(tmp_path / "own.keras")
    loaded = models.build(str(tmp_path / "own.keras"), (4,), None)
    np.testing.assert_array_equal(model(np.ones((1, 4))), loaded(np.ones((1, 4))))


def test_a_keras_file_that_cannot_be_used(tmp_path):
    path = tmp_path / "own.keras"
    models.build("mlp", (4,), 3).save(path)
    with pytest.raises(ValueError, match="`image_size`, `weights` must be left out"):
        models.build(str(path), (4,), None, image_size=3, weights="imagenet")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"own.keras, which isn't one or is incomplete"):
        models.build(str(path), (4,), None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5", {}, "The nearest are: resnet50"),
        ("nowhere.keras", {}, "an existing .keras file"),
        ("mlp", {"image_size": 64}, "`image_size` must be left out for mlp"),
        ("mlp", {"weights": "imagenet"}, "There are no ImageNet weights"),
        ("mlp", {"weights": "no.weights.h5"}, "an existing file"),
    ],
)
def test_bad_arguments(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, (28, 28, 1), 10, **options)


@pytest.mark.parametrize("shape", [(8,), (28, 28), (3, 28, 1)])
@pytest.mark.parametrize("name", ["lenet", "mnist_convnet"])
def test_convnets_take_images_alone(name, shape):
    message = rf"\(height, width, channels\) for {name}, of at least 4 x 4 .*{shape[0]}"
    with pytest.raises(ValueError, match=message):
        models.build(name, shape, 10)
    assert models.build(name, (4, 4, 1), 10).output_shape == (None, 10)


def test_weights_of_another_network(tmp_path):
    models.build("mlp", (28, 28, 1), 10).save_weights(tmp_path / "mlp.weights.h5")
    with pytest.raises(
        ValueError, match=r"weights file of mnist_convnet for .* 10 classes.*<Conv2D name=conv1"
    ):
        models.build("mnist_convnet", (28, 28, 1), 10, weights=str(tmp_path / "mlp.weights.h5"))
