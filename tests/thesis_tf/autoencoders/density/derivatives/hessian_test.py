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
    twice = tf.linalg.LinearOperatorComposition([operator, operator])
    np.testing.assert_allclose(twice.matmul(vectors), dense @ dense @ vectors, atol=1e-11)
