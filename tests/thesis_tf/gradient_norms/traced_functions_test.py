"""Norms of models with layers whose call is a `tf.function`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms


class Plain(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x):
        return tf.tanh(tf.matmul(x, self.kernel))


class Decorated(Plain):
    @tf.function
    def call(self, x):
        return tf.tanh(tf.matmul(x, self.kernel))


class Inside(keras.layers.Layer):
    """A layer with rules inside a decorated call."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4, "tanh", use_bias=False)

    def build(self, shape):
        self.dense.build(shape)

    @tf.function
    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("form", [Decorated, Inside])
@pytest.mark.parametrize("called_before", [False, True])
def test_norms_and_gradients_at_the_weights_of_now(form, called_before):
    x, y = np.random.default_rng(0).normal(size=(6, 5)).astype("f"), np.arange(6) % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    results, weights = [], []
    for layer in (form(), Plain()):
        model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(2)])
        model.set_weights(weights or model.get_weights())
        weights = model.get_weights()
        if called_before:
            model(x)
        norms = gradient_norms.per_example_gradient_norms(model, loss)
        found = [norms(x, y)]
        model.set_weights([2 * w for w in model.get_weights()])
        results.append(np.array([*found, norms(x, y)]))
    np.testing.assert_allclose(*results, rtol=1e-5)
    assert not np.allclose(results[0][0], results[0][1])
