import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import single_examples


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("regularization", [False, True])
def test_the_loss_of_one_example(copies, regularization):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer="l2")])
    x, y = np.random.default_rng(0).normal(size=(2, 1, 3)).astype("float32")
    y = y[:, :2]
    objective = Objective(model, "mse")
    loss, outputs = single_examples.loss_of_one(
        objective, *objective.read(), tf.constant(x), tf.constant(y), divisors=None,
        regularization=regularization, copies=copies,
    )  # fmt: skip
    expected = np.mean((model.predict(x, verbose=0) - y) ** 2)
    expected += 0.01 * np.square(model.layers[0].kernel).sum() if regularization else 0
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert outputs.shape == (copies, 2)


def test_squared_norms():
    gradients = [tf.constant([3.0, 4.0]), tf.IndexedSlices(tf.ones((2, 2)), [0, 0], [3, 2])]
    np.testing.assert_allclose(single_examples.squared_norms(gradients, tf.float64), [25, 8])
