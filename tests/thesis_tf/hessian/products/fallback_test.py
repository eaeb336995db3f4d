import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
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
    with pytest.warns(FallbackWarning), pytest.raises(UnsupportedError):
        traced(keras.layers.SimpleRNN(2), "forward_over_reverse")
    with pytest.raises(UnsupportedError):
        traced(keras.layers.SimpleRNN(2), FALLBACK)
