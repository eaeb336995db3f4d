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
