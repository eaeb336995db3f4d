import keras
import numpy as np
import pytest

from models.backbones import BACKBONES, backbone

SMALL = (40, 40, 3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, *SMALL)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "size", "preprocess"),
    [
        ("resnet50", 32, keras.applications.resnet50.preprocess_input),
        ("inception_v3", 75, keras.applications.inception_v3.preprocess_input),
    ],
)
def test_same_features_as_keras_applications(architecture, size, preprocess, images):
    model = backbone(architecture, SMALL, 10, image_size=size)
    plain = BACKBONES[architecture].build(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    plain.set_weights(model.get_weights()[: len(plain.weights)])
    resized = np.array(keras.ops.image.resize(images, (size, size)))
    last = model.layers[[layer.name for layer in model.layers].index("avg_pool") - 1]
    features = keras.Model(model.inputs[0], last.output)(images)
    np.testing.assert_allclose(features, plain(preprocess(resized)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_weights_of_keras_with_and_without_head(tmp_path, images):
    size = 32
    whole = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3), classes=7)
    whole.save_weights(tmp_path / "whole.weights.h5")
    bare = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    bare.set_weights(whole.get_weights()[:-2])
    bare.save_weights(tmp_path / "bare.weights.h5")
    model = backbone("resnet50", SMALL, weights=tmp_path / "whole.weights.h5", image_size=size)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # For another number of classes, all weights except those of the head are loaded.
    other = backbone("resnet50", SMALL, 10, weights=tmp_path / "whole.weights.h5", image_size=size)
    for one, two in zip(other.get_weights()[:-2], whole.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.output_shape == (None, 10)
    headless = backbone("resnet50", SMALL, weights=tmp_path / "bare.weights.h5", image_size=size)
    assert headless.output_shape == (None, 2048)


@pytest.mark.slow
def test_own_weights_round_trip_with_auxiliary_head(tmp_path, images):
    arguments = {"image_size": 75, "auxiliary_head": True}
    model = backbone("inception_v3", SMALL, 5, **arguments)
    model.save_weights(tmp_path / "own.weights.h5")
    loaded = backbone("inception_v3", SMALL, 5, weights=tmp_path / "own.weights.h5", **arguments)
    for one, other in zip(model(images), loaded(images), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_layers_have_the_same_names_however_many_were_built_before():
    first = backbone("inception_v3", SMALL, 5, image_size=75)
    second = backbone("inception_v3", SMALL, 5, image_size=75)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert {"conv2d", "conv2d_93", "mixed7", "mixed10"} <= {layer.name for layer in first.layers}


@pytest.mark.slow
def test_call_without_training_is_inference(images):
    model = backbone("resnet50", SMALL, 10, image_size=32)
    before = model.get_layer("conv1_bn").get_weights()
    model(images)
    for one, other in zip(before, model.get_layer("conv1_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_gray_images_become_color():
    model = backbone("resnet50", (28, 28, 1), 10, image_size=32)
    gray = np.random.default_rng(0).uniform(0, 255, (1, 28, 28, 1))
    color = backbone("resnet50", (28, 28, 3), 10, image_size=32)
    color.set_weights(model.get_weights())
    np.testing.assert_allclose(model(gray), color(np.repeat(gray, 3, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inception_v3", SMALL, 10, {"image_size": 74}), "at least 75 for inception_v3"),
        (("resnet50", (32, 32, 4), 10, {}), "1 or 3"),
        (("resnet50", SMALL, 10, {"auxiliary_head": True}), "must be False for resnet50"),
        (("resnet50", SMALL, 10, {"weights": "no.weights.h5"}), "an existing file"),
        (("resnet50", SMALL, 10, {"preprocessing": "caffee"}), "must be one of default, caffe"),
    ],
)
def test_bad_arguments(arguments, message):
    *positional, named = arguments
    with pytest.raises(ValueError, match=message):
        backbone(*positional, **named)


@pytest.mark.slow
def test_weights_of_another_network(tmp_path):
    keras.applications.VGG16(weights=None, include_top=False).save_weights(
        tmp_path / "vgg.weights.h5"
    )
    with pytest.raises(ValueError, match=r"weights file of resnet50\. Received: .*vgg"):
        backbone("resnet50", SMALL, 10, weights=tmp_path / "vgg.weights.h5", image_size=32)


@pytest.mark.slow
@pytest.mark.assets
def test_imagenet_weights_know_what_they_see(asset):
    """The classes of most of CIFAR-10's cats and dogs are ImageNet's cats and dogs."""
    with np.load(asset("cifar10.npz"), allow_pickle=False) as data:
        x, y = data["x_test"], data["y_test"].ravel()
    model = backbone("resnet50", (32, 32, 3), weights=asset("resnet50_imagenet.weights.h5"))
    dogs = model.predict(x[y == 5][:24], verbose=0).argmax(1)
    ships = model.predict(x[y == 8][:24], verbose=0).argmax(1)
    # ImageNet's classes 151 to 268 are dogs, which are many of its classes.
    assert np.mean((dogs >= 151) & (dogs <= 268)) > 0.5
    assert np.mean((ships >= 151) & (ships <= 268)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "size", "last", "following"),
    [
        ("resnet50", 32, "conv2_block1_out", "conv2_block2_1_conv"),
        ("inception_v3", 75, "max_pooling2d_1", "conv2d_5"),
        ("vgg16", 32, "pixels", "block1_conv1"),
    ],
)
def test_the_first_layers_and_logits_stay_float32_under_mixed_precision(
    architecture, size, last, following
):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbone(architecture, SMALL, 10, image_size=size)
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers[1:]}
    names = list(dtypes)
    exact = names[: names.index(last) + 1]
    assert [dtypes.pop(name) for name in exact] == ["float32"] * len(exact)
    assert dtypes.pop("predictions") == "float32"
    assert following in dtypes
    assert set(dtypes.values()) == {"bfloat16"}
    assert model(np.zeros((1, *SMALL))).dtype == "float32"
