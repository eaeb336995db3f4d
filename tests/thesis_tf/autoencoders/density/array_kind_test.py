import numpy as np
import tensorflow as tf

from thesis_tf.autoencoders.density import array_kind


def test_values_have_the_kind_of_the_points():
    value = tf.constant([1.0])
    assert isinstance(array_kind.like(np.ones(1), value), np.ndarray)
    assert isinstance(array_kind.like([1.0], value), np.ndarray)
    assert tf.is_tensor(array_kind.like(value, value))
    assert tf.is_tensor(array_kind.like(tf.Variable([1.0]), value))


def test_graphs_hold_tensors_alone():
    @tf.function
    def traced():
        return array_kind.like(np.ones(1), tf.constant([2.0])) + 1

    assert traced().numpy() == [3.0]
