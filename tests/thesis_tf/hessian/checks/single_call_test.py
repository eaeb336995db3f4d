import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.recording import watch
from thesis_tf.hessian.checks.single_call import SingleCall


def test_a_scalar_of_the_inputs_and_the_weights_of_one_layer():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="float64"),
            keras.layers.Dense(2, dtype="float64", name="hidden"),
            keras.layers.Dense(4, dtype="float64"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 3))
    with watch(model) as recorder:
        model(tf.constant(x))
    place = next(p for p in recorder.places if p.operation is model.get_layer("hidden"))
    values = {id(v): tf.convert_to_tensor(v.value) for v in model.variables}
    call = SingleCall(place, values)
    assert [tuple(p.shape) for p in call.parameters] == [(5, 3), (3, 2), (2,)]
    assert call.layout.size == 15 + 6 + 2

    nothing = (tf.zeros(()),) * 3
    moved = [p + 0.1 for p in call.parameters]
    outputs = (x + 0.1) @ (values[id(model.layers[0].kernel)].numpy() + 0.1) + 0.1
    slopes = np.random.default_rng(1).normal(size=(5, 2))
    expected = np.sum(slopes * outputs + outputs**2 / 2)
    assert float(call.total(moved, [], *nothing)) == pytest.approx(expected)
