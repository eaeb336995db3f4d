import numpy as np
import tensorflow as tf

from thesis_tf.autoencoders import LogDensityHessian

RNG = np.random.default_rng(0)


def test_products_are_those_of_the_symmetric_part_of_the_jacobian():
    matrix, sigma = RNG.normal(size=(3, 3)), 0.5
    operator = LogDensityHessian(lambda x: x @ matrix, tf.constant(RNG.normal(size=(2, 3))), sigma)
    dense = ((matrix + matrix.T) / 2 - np.eye(3)) / sigma**2
    assert operator.shape == (2, 3, 3)
    vectors = RNG.normal(size=(2, 3, 4))
    np.testing.assert_allclose(operator.matmul(vectors), dense @ vectors, atol=1e-12)
    np.testing.assert_allclose(operator.to_dense(), np.stack([dense] * 2), atol=1e-12)
    solved = tf.linalg.experimental.conjugate_gradient(
        LogDensityHessian(lambda x: x @ (-matrix @ matrix.T), tf.zeros((1, 3), tf.float64), 1.0),
        tf.ones((1, 3), tf.float64),
    )
    expected = np.linalg.solve(-matrix @ matrix.T - np.eye(3), np.ones(3))
    np.testing.assert_allclose(solved.x[0], expected, rtol=1e-6)
