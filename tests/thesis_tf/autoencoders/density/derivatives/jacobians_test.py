import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders.density.derivatives import jacobians

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3, 3))
X = RNG.normal(size=(4, 3))


def function(x):
    return tf.tanh(x @ MATRIX)


def dense(x):
    """Returns d tanh(x'M) / dx (n, 3, 3)."""
    slope = 1 - np.tanh(x @ MATRIX) ** 2
    return slope[:, :, None] * MATRIX.T


def test_jacobians_and_products():
    outputs, found = jacobians.jacobian(function, tf.constant(X))
    np.testing.assert_allclose(outputs, np.tanh(X @ MATRIX))
    np.testing.assert_allclose(found, dense(X))
    vectors = RNG.normal(size=X.shape)
    _, forward, backward = jacobians.products(function, tf.constant(X), tf.constant(vectors))
    np.testing.assert_allclose(forward, np.einsum("nij,nj->ni", dense(X), vectors))
    np.testing.assert_allclose(backward, np.einsum("nij,ni->nj", dense(X), vectors))


def test_jacobians_of_what_cannot_be_vectorized(monkeypatch):
    vectorized = tf.GradientTape.batch_jacobian

    def refuse(tape, target, source, *, experimental_use_pfor=True):
        if experimental_use_pfor:
            raise NotImplementedError("no converter")
        return vectorized(tape, target, source, experimental_use_pfor=False)

    monkeypatch.setattr(tf.GradientTape, "batch_jacobian", refuse)
    _, found = jacobians.jacobian(function, tf.constant(X))
    np.testing.assert_allclose(found, dense(X))


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_errors_of_a_function_are_not_hidden(kind):
    @tf.custom_gradient
    def broken(x):
        def gradient(upstream):
            raise kind("the derivative is broken")

        return tf.square(x), gradient

    with pytest.raises(kind, match="the derivative is broken"):
        jacobians.jacobian(broken, tf.constant(X))


@pytest.mark.slow
def test_squared_norms():
    expected = np.square(dense(X)).sum(axis=(1, 2))
    np.testing.assert_allclose(jacobians.squared_norm(function, tf.constant(X)), expected)
    estimates = jacobians.squared_norm(
        function, tf.constant(X), estimate="hutchinson", num_vectors=2000, seed=(1, 2)
    )
    # The relative standard deviation is at most sqrt(2 / num_vectors).
    np.testing.assert_allclose(estimates, expected, rtol=4 * (2 / 2000) ** 0.5)
    with pytest.raises(ValueError, match="`estimate` must be one of exact, hutchinson"):
        jacobians.squared_norm(function, tf.constant(X), estimate="trace")


@pytest.mark.parametrize("estimate", jacobians.ESTIMATES)
def test_gradients_of_norms_behind_a_max_pooling_are_the_same_each_time(estimate):
    # TensorFlow's second derivative of this pooling overwrites its input in graphs, at random.
    kernel = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 1, 1)))
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 4, 4, 1)))

    def gradient(kernel):
        def function(x):
            hidden = tf.tanh(tf.nn.conv2d(x, kernel, 1, "SAME"))
            return tf.tanh(tf.nn.max_pool2d(hidden, 2, 1, "SAME"))

        with tf.GradientTape() as tape:
            tape.watch(kernel)
            norms = jacobians.squared_norm(function, x, estimate=estimate, seed=(0, 1))
        return tape.gradient(norms, kernel)

    expected = gradient(kernel)
    compiled = tf.function(gradient, autograph=False)
    for _ in range(50):
        np.testing.assert_allclose(compiled(kernel), expected, rtol=1e-10)
