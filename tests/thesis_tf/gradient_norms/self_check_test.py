import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import self_check

X = np.random.default_rng(0).normal(size=(1, 3)).astype("f")
Y = np.array([[0.5, -1.0]], "f")


@pytest.fixture
def objective():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer="l2")])
    return Objective(model, "mse")


@pytest.mark.parametrize("regularization", [False, True])
def test_plain_squares_are_those_written_out(objective, regularization):
    kernel, bias = (v.numpy().astype(float) for v in objective.variables)
    delta = (X @ kernel + bias - Y)[0]  # the derivative of a mean of two squares
    gradient = np.outer(X[0], delta) + (2 * 0.01 * kernel if regularization else 0)
    plain = self_check.plain_squares(objective, regularization=regularization)
    found = plain(tf.constant(X), tf.constant(Y))
    np.testing.assert_allclose(found, [np.square(gradient).sum(), delta @ delta], rtol=1e-5)


def test_rounding_passes_and_an_error_does_not(objective):
    right = np.array([[1.0, 4.0], [2.0, 1e-9]])
    assert self_check.compare(right * (1 + 1e-4), right, objective)
    # If a variable's gradient is much smaller than those of others, its error may be relative to
    # them.
    slightly_off = np.array([[0, 0], [0, 1e-6]])
    assert self_check.compare(right + slightly_off, right, objective)
    with pytest.raises(ValueError, match=r"of .*bias for example 0 should be 4, .* gives 4\.4"):
        self_check.compare(right * [1.0, 1.1], right, objective)


def test_what_is_not_finite_is_not_compared(objective):
    assert not self_check.compare(np.array([[np.nan, 1.0]]), np.ones((1, 2)), objective)
    assert not self_check.compare(np.ones((1, 2)), np.array([[np.inf, 1.0]]), objective)
