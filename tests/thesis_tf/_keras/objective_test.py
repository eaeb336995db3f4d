import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective


def network(loss="mse", reduction="sum_over_batch_size"):
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.L2(0.5)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", kernel_regularizer=regularizer, name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, name="last"),
        ]
    )
    model.compile(loss=loss)
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("f")
    return model, (x, y[:, :2])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_mean_is_what_evaluate_computes(loss):
    model, (x, y) = network(loss)
    objective = Objective(model, loss)
    total = objective.total(*objective.read(), tf.constant(x), tf.constant(y), tf.ones(6))
    assert float(total) / 6 == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def test_weights_count_examples():
    model, (x, y) = network()
    objective = Objective(model, "mse")
    values = objective.read()
    losses = objective.example_losses(y, objective.outputs(*values, tf.constant(x)))
    expected = np.mean((model.predict(x, verbose=0) - y) ** 2, axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    added = objective.regularization(*values)
    assert float(added) == pytest.approx(0.5 * np.sum(model.get_layer("first").kernel.numpy() ** 2))
    weights = np.array([1, 0, 2, 0, 0, 1], "f")
    total = objective.total(*values, tf.constant(x), tf.constant(y), tf.constant(weights))
    assert float(total) == pytest.approx(weights @ expected + 4 * float(added), rel=1e-5)


def test_some_parameters_move_and_the_others_are_constants():
    model, (x, _) = network()
    objective = Objective(model, "mse", "last")
    assert [v.path.split("/")[-1] for v in objective.variables] == ["kernel", "bias"]
    parameters, constants = objective.read()
    moved = objective.outputs([p + 1 for p in parameters], constants, tf.constant(x))
    before = model.predict(x, verbose=0)
    hidden = model.layers[1](model.layers[0](x)).numpy()
    np.testing.assert_allclose(moved - before, hidden.sum(axis=1, keepdims=True) + 1 + 0 * before,
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_everything_is_in_float64_for_a_while():
    model, (x, _) = network()
    objective = Objective(model, "mse")
    with objective.in_float64():
        values = objective.read(tf.float64)
        assert objective.outputs(*values, tf.constant(x, tf.float64)).dtype == tf.float64
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


def test_names_tell_losses_apart():
    model, _ = network()
    names = {
        Objective(model, loss).loss_name
        for loss in (
            keras.losses.MeanSquaredError(),
            keras.losses.Huber(),
            keras.losses.Huber(delta=2.0),
            "mae",
        )
    }
    assert len(names) == 4
