import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gsn
from thesis_tf.gsn.kernel import NetworkKernel, known_or_neutral


def network():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(4)]
    return gsn.WalkbackAutoEncoder(keras.Sequential(layers))


def test_unknown_values_begin_neutrally():
    x = np.array([[0.0, np.nan, 1.0, np.nan]], "float32")
    np.testing.assert_array_equal(known_or_neutral(x, gsn.Bernoulli()), [[0, 0.5, 1, 0.5]])


def test_a_step_depends_on_the_seed_alone():
    kernel = NetworkKernel(network())
    state = kernel.initial_state(tf.constant(np.eye(4), tf.float32))
    first, again = (kernel.step(state, tf.constant([0, 1])) for _ in range(2))
    np.testing.assert_array_equal(first.x, again.x)
    mean = tf.sigmoid(kernel.distribution_parameters(first))
    np.testing.assert_allclose(kernel.mean(first), mean, rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`alpha` must be one of first, random"):
        NetworkKernel(network(), alpha="last")
    with pytest.raises(ValueError, match="Received"):
        NetworkKernel(network()).check(tf.constant(np.full((1, 4), 255.0), tf.float32))
