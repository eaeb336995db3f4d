import numpy as np

from models.mlp import issgd_mlp, mlp, skip_mlp


def test_an_mlp_is_its_formula():
    model = mlp((2, 3), 4, units=(5,), activation="tanh")
    x = np.random.default_rng(0).uniform(0, 255, (7, 2, 3)).astype(np.float32)
    w1, b1, w2, b2 = model.get_weights()
    expected = np.tanh(x.reshape(7, 6) / 255 @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert [layer.name for layer in model.layers[-3:]] == ["fc1", "fc1_tanh", "logits"]


def test_the_network_of_chapter_7():
    model = issgd_mlp()
    assert model.count_params() == 18_903_050
    kernel = model.get_layer("fc2").get_weights()[0]
    assert abs(kernel.std() / 0.01 - 1) < 0.01


def test_the_skip_adds_the_first_layer():
    model = skip_mlp((3,), 2, depth=3, width=4, skip=2)
    x = np.random.default_rng(1).uniform(0, 255, (5, 3)).astype(np.float32)
    w1, b1, w2, b2, w3, b3, w4, b4 = model.get_weights()

    def layer(h, w, b):
        z = h @ w + b
        return np.where(z > 0, z, 0.5 * z)

    first = layer(x / 255, w1, b1)
    joined = layer(first, w2, b2) + first
    np.testing.assert_allclose(model(x), layer(joined, w3, b3) @ w4 + b4, atol=1e-5)
