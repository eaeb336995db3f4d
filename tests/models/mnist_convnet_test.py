import pytest

from models.mnist_convnet import mnist_convnet


def test_every_step_is_a_layer():
    model = mnist_convnet((8, 8, 1), 5, units=16)
    assert [layer.name for layer in model.layers] == [
        "pixels", "conv1", "conv1_relu", "conv1_pool", "conv2", "conv2_relu", "conv2_pool",
        "flatten", "fc1", "fc1_relu", "logits",
    ]  # fmt: skip
    assert model.output_shape == (None, 5)
    assert model.get_layer("flatten").output.shape == (None, 2 * 2 * 64)


def test_small_images():
    with pytest.raises(ValueError, match="at least 4 x 4 pixels"):
        mnist_convnet((3, 8, 1))
