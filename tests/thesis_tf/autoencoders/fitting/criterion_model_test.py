import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders import (
    ContractiveLoss,
    CriterionModel,
    DecreasingNoise,
    DenoisingLoss,
    ReconstructionContractiveLoss,
)

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "tanh", name="encoder"), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((4,)), *layers])


def compiled(criterion=None, seed=0, optimizer=None):
    model = CriterionModel(network(), criterion or DenoisingLoss(0.1), seed=seed)
    model.compile(optimizer or keras.optimizers.SGD(0.05))
    return model


def test_a_step_is_one_of_gradient_descent_on_the_criterion():
    one = compiled()
    one.fit(X, batch_size=64, epochs=1, shuffle=False, verbose=0)
    model, seed = network(), tf.constant([0, 0])
    for _ in range(2):  # the seed is folded with the replica and the batch
        seed = tf.random.experimental.stateless_fold_in(seed, 0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(DenoisingLoss(0.1)(model, tf.constant(X), None, seed=seed))
    gradients = tape.gradient(loss, model.trainable_variables)
    for new, old, gradient in zip(one.model.variables, model.variables, gradients, strict=True):
        np.testing.assert_allclose(new, old.value - 0.05 * gradient, atol=1e-6)


def criteria():
    return {
        "denoising": lambda model: DenoisingLoss(0.1),
        "decreasing": lambda model: DenoisingLoss(DecreasingNoise(1.0, 0.1, num_steps=20)),
        "contractive": lambda model: ContractiveLoss(model.layers[0], 0.01),
        "rcae": lambda model: ReconstructionContractiveLoss(0.1, jacobian_norm="hutchinson"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", criteria())
def test_training_lowers_the_loss(name):
    model = network()
    one = CriterionModel(model, criteria()[name](model))
    one.compile(keras.optimizers.Adam(0.02))
    history = one.fit(X, epochs=30, batch_size=16, validation_data=(X, X), verbose=0).history
    assert history["loss"][-1] < 0.4 * history["loss"][0]
    assert history["val_loss"][-1] < 0.4 * history["val_loss"][0]


def test_weights_of_examples_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    one = compiled(optimizer=keras.optimizers.Adam(0.01))
    weights = np.repeat([1.0, 0.0], 32).astype(np.float32)
    history = one.fit(X, X, sample_weight=weights, epochs=5, batch_size=64, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_what_is_kept_is_the_model(tmp_path):
    one = compiled()
    one.fit(X, verbose=0)
    one.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(X), one(X))


def test_bad_input():
    with pytest.raises(TypeError, match="`model` must be a keras"):
        CriterionModel(lambda x: x, DenoisingLoss(0.1))
    with pytest.raises(TypeError, match="`criterion` must be a criterion such as"):
        CriterionModel(network(), "mse")
    for given in ({"loss": "mae"}, {"metrics": ["mse"]}):
        with pytest.raises(ValueError, match="CriterionModel has a built-in loss"):
            compiled().compile("adam", **given)
    with pytest.raises(ValueError, match="Auto-encoders have no labels"):
        compiled().fit(X, np.zeros(64, np.float32), verbose=0)
