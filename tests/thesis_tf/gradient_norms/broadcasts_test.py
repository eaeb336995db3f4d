import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms.batch_axis import BatchAxis
from thesis_tf.gradient_norms.broadcasts import gradients_by_example, meetings

N, T, D = 5, 5, 3  # as many steps as examples
RNG = np.random.default_rng(0)
X = tf.constant(RNG.normal(size=(N, T, D)), tf.float64)
TABLE = tf.constant(RNG.normal(size=(T, D)), tf.float64)
SQUARE = tf.constant(RNG.normal(size=(D, D)), tf.float64)


def spread(x, table):
    shape = [tf.shape(x)[0], T, D]
    return x * tf.broadcast_to(tf.tanh(table), shape)


# name: (a function of x and a constant tensor, the tensor)
CASES = {
    "added": (lambda x, table: x + table, TABLE),
    "subtracted": (lambda x, table: x - table, TABLE),
    "multiplied": (lambda x, table: x * table, TABLE),
    "broadcast": (spread, TABLE),
    "tiled": (lambda x, t: x * tf.tile(t[tf.newaxis], [tf.shape(x)[0], 1, 1]), TABLE),
    "product": (lambda x, matrix: x @ matrix, SQUARE),
    "picked": (lambda x, table: tf.where(x > 0, table, 0), TABLE),
    "twice": (lambda x, table: x + table + x * table, TABLE),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_single_examples(name):
    function, constant = CASES[name]

    def loss(x, value):
        return tf.reduce_sum(tf.sin(function(x, value)), [1, 2])

    expected = []
    for i in range(N):
        with tf.GradientTape() as tape:
            tape.watch(constant)
            value = loss(X[i : i + 1], constant)
        expected.append(tape.gradient(value, constant))

    @tf.function
    def found(x):
        value = tf.identity(constant)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(value)
            total = tf.reduce_sum(loss(x, value))
        places = meetings(value, BatchAxis(x))
        outputs = [place.output for place in places]
        gradients = tape.gradient(total, outputs)
        by_tensor = {id(o): g for o, g in zip(outputs, gradients, strict=True)}
        return gradients_by_example(value, places, by_tensor, tape).dense()

    concrete = found.get_concrete_function(tf.TensorSpec((None, T, D), tf.float64))
    np.testing.assert_allclose(concrete(X), np.stack(expected), rtol=1e-10, atol=1e-12)
