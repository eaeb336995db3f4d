import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from thesis_tf.autoencoders import ContractiveLoss, CriterionModel

RNG = np.random.default_rng(0)
BUILDERS = [models.autoencoder, models.tied_autoencoder]


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1)])
@pytest.mark.parametrize("build", BUILDERS)
def test_it_keeps_the_shape_and_survives_a_file(build, shape, tmp_path):
    model = build(shape, units=5)
    x = RNG.uniform(size=(6, *shape)).astype(np.float32)
    assert model(x).shape == x.shape
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_the_untied_one_by_hand():
    model = models.autoencoder((3,), units=5, dtype="float64")
    w, b, v, c = (RNG.normal(size=s) for s in ((3, 5), (5,), (5, 3), (3,)))
    model.get_layer("encoder").set_weights([w, b])
    model.get_layer("decoder").set_weights([v, c])
    x = RNG.normal(size=(4, 3))
    np.testing.assert_allclose(model(x), np.tanh(x @ w + b) @ v + c, rtol=1e-12)


def test_the_tied_one_by_hand():
    model = models.tied_autoencoder((3,), units=5, dtype="float64")
    w, b, c = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=3)
    model.get_layer("tied").set_weights([w, b, c])
    x = RNG.normal(size=(4, 3))
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    h = sigmoid(x @ w + b)
    np.testing.assert_allclose(model.get_layer("tied").encode(x), h, rtol=1e-12)
    np.testing.assert_allclose(model(x), sigmoid(h @ w.T + c), rtol=1e-12)
    assert model.count_params() == 15 + 5 + 3


@pytest.mark.slow
def test_the_contractive_auto_encoder_trains():
    keras.utils.set_random_seed(0)
    model = models.tied_autoencoder((6,), units=8)
    encode = model.get_layer("tied").encode
    x = RNG.uniform(size=(64, 6)).astype(np.float32)
    # For sigmoid units: dh_j/dx_i = h_j (1 - h_j) W_ij.
    h, w = encode(x).numpy(), model.get_layer("tied").get_weights()[0]
    norms = (h * (1 - h)) ** 2 @ np.square(w).sum(axis=0)
    criterion = ContractiveLoss(encode, 0.1, distance="bernoulli")
    plain = keras.losses.BinaryCrossentropy(reduction=None)(x, model(x)).numpy() * 6
    np.testing.assert_allclose(criterion(model, tf.constant(x)), plain + 0.1 * norms, rtol=1e-4)
    trainer = CriterionModel(model, criterion)
    trainer.compile(keras.optimizers.Adam(0.02))
    losses = trainer.fit(x, epochs=20, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.02


@pytest.mark.parametrize("build", BUILDERS)
def test_mixed_precision_puts_out_float32(build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build((3,), units=4)
    x = RNG.uniform(size=(5, 3)).astype(np.float32)
    assert model(x).dtype == tf.float32
    assert all(v.dtype == "float32" for v in model.variables)
