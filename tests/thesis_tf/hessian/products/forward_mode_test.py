import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.hessian.products import forward_mode

RNG = np.random.default_rng(0)
X, V = RNG.normal(size=(2, 2, 4, 4, 1))
KERNEL = tf.constant(RNG.normal(size=(2, 2, 1, 3)))

FUNCTIONS = {
    "linear": lambda x: 3 * tf.transpose(x[..., 0]) - 1,
    "multilinear": lambda x: x * tf.reverse(x, [1]),
    "convolution": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME"),
    "smooth": lambda x: tf.math.erf(tf.exp(-(x**2))),
    "softsign": tf.nn.softsign,
    "relu": tf.nn.relu,
    "max-pooling": lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"),
    "overlapping max-pooling": lambda x: tf.nn.max_pool2d(x, 3, 1, "VALID"),
    "rounded": lambda x: x * tf.floor(4 * x),
    "nothing": lambda x: tf.zeros_like(x) + 2.0,
}


def pushed(function):
    """Returns the derivative of a function at X along V, by `push`."""

    @tf.function(autograph=False)
    def run(x, v):
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        y = function(x)
        tangents = {x.ref(): v}
        operations = graph.get_operations()[before:]
        forward_mode.push(operations, tangents, forward_mode.Recording())
        return tangents.get(y.ref(), tf.zeros_like(y))

    return run(tf.constant(X), tf.constant(V)).numpy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_central_differences(name):
    function, h = FUNCTIONS[name], 1e-6
    # Tensors, since TensorFlow converts arrays to float32 for some operations.
    ahead, behind = (function(tf.constant(X + step * V)) for step in (h, -h))
    difference = (ahead - behind) / (2 * h)
    np.testing.assert_allclose(pushed(function), difference, atol=1e-8)


def test_stopped_gradients_are_values_like_others():
    np.testing.assert_allclose(pushed(lambda x: x * tf.stop_gradient(x)), 2 * X * V)


def test_loops_are_refused():
    def loop(x):
        return tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * x), (0, x))[1]

    with pytest.raises(forward_mode.UnsupportedError, match="runs functions, as loops do"):
        pushed(loop)
