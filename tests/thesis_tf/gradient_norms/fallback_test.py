import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms


class Sine(keras.layers.Layer):
    """sin(x w) / (2 + w_1), for which there is no rule, and no meeting with the batch is known."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x):
        return keras.ops.sin(keras.ops.matmul(x, self.w)) / (2 + self.w[0])


class Noisy(Sine):
    """Draws random numbers in training mode."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        x = super().call(x)
        return x + keras.random.normal(x.shape[1:], seed=self.seed_generator) if training else x


def model_of(layer):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])


X = np.random.default_rng(0).normal(size=(5, 4)).astype("f")
Y = np.zeros((5, 2), "f")


def test_a_layer_without_a_rule_is_mapped_over_the_examples():
    model = model_of(Sine())
    norms = gradient_norms.per_example_gradient_norms(model, "mse", check=False)
    with tf.GradientTape() as tape:
        losses = tf.reduce_mean(tf.square(model(X) - Y), axis=1)
    jacobians = tape.jacobian(losses, [v.value for v in model.trainable_variables])
    expected = sum(np.square(j).reshape(5, -1).sum(axis=1) for j in jacobians)
    np.testing.assert_allclose(norms(X, Y)[1], expected, rtol=1e-5)


def test_random_numbers_in_training_mode_are_refused():
    model = model_of(Noisy())
    gradient_norms.per_example_gradient_norms(model, "mse")(X, Y)
    norms = gradient_norms.per_example_gradient_norms(model, "mse", training=True)
    with pytest.raises(ValueError, match=r"noisy.* draws random numbers.* Leave out training=True"):
        norms(X, Y)


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
    """A layer that has a rule, inside a decorated call."""

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
