import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf.hessian import HessianOperator
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.fallback import (
    FALLBACK,
    FallbackWarning,
    UnsupportedError,
    traced_with_fallback,
)


def traced(layer, mode):
    model = keras.Sequential([keras.Input((3, 2)), layer])
    objective = Objective(model, "mse")
    parameters, constants = objective.read()
    x, y = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype("f")
    batch = tf.constant(x), tf.constant(y[:, 0]), tf.ones(4)
    specs = tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape, t.dtype),
        (objective.layout.pack(parameters), parameters, constants, batch),
    )
    return traced_with_fallback(modes.HESSIAN, mode, objective, specs, stacklevel=2)


@pytest.mark.parametrize("mode", modes.HESSIAN.modes)
def test_a_mode_that_can_is_used(mode):
    used, _, _ = traced(keras.layers.SimpleRNN(2, unroll=True), mode)
    assert used == mode


def test_loops_take_reverse_mode_alone():
    with pytest.warns(FallbackWarning, match="by reverse_over_reverse, as forward_over_reverse"):
        used, keep, product = traced(keras.layers.SimpleRNN(2), "forward_over_reverse")
    assert used == FALLBACK
    assert callable(keep)
    assert callable(product)


def test_what_no_mode_can_do(monkeypatch):
    def refused(mode, specs):
        raise UnsupportedError("no derivative")

    monkeypatch.setattr(modes, "traced", refused)
    for mode in ("forward_over_reverse", FALLBACK):
        with pytest.raises(UnsupportedError):
            traced(keras.layers.SimpleRNN(2), mode)


def test_an_error_that_is_not_about_the_mode_is_not_hidden():
    class Broken(keras.layers.Layer):
        def call(self, x):
            if keras.backend.is_keras_tensor(x):
                return x[:, 0]
            raise TypeError("a mistake in the layer")

    with pytest.raises(TypeError, match="a mistake in the layer"):
        traced(Broken(), "forward_accumulator")


def test_an_operation_that_overwrites_its_input_is_refused():
    # As a user's own operation, or a function that was differentiated before the mend.
    @tf.custom_gradient
    def pool(x):
        pooled = tf.nn.max_pool1d(x, 2, 1, "SAME")

        def back(upstream):
            v = tf.raw_ops.MaxPoolGradGrad(
                orig_input=x[:, None],
                orig_output=pooled[:, None],
                grad=(upstream * 2.0)[:, None],
                ksize=[1, 1, 2, 1],
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return v[:, 0]

        return pooled, back

    layer = keras.layers.Lambda(lambda x: pool(x * tf.tanh(x))[:, 0])
    model_layers = keras.Sequential([keras.layers.Dense(2), layer])
    with pytest.raises(UnsupportedError, match=r"MaxPoolGradGrad.*wrongly at random"):
        traced(model_layers, FALLBACK)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_that_reads_weights_is_refused(compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="first")])

    def loss(y, outputs):
        penalty = sum(tf.reduce_sum(w.value**2) for w in model.trainable_variables)
        return tf.reduce_sum((outputs - y) ** 2, axis=1) + penalty

    x, y = np.ones((4, 3), "f"), np.ones((4, 2), "f")
    with pytest.raises(ValueError, match=r"The loss reads .*first/kernel itself.*regularizer"):
        HessianOperator(model, tf.function(loss) if compiled else loss, (x, y), check=False)
