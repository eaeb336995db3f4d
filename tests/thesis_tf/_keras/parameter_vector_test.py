import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras import parameter_vector


@pytest.fixture
def model():
    inner = keras.Sequential([keras.layers.Dense(2, name="a"), keras.layers.Dense(3)], name="inner")
    layers = [keras.Input((4,)), inner, keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential(layers, name="outer")


def names(variables):
    return [v.path.split("/", 1)[1] if "outer" in v.path else v.path for v in variables]


def test_order_and_repetition_do_not_count(model):
    everything = parameter_vector.select(model)
    assert everything == model.trainable_variables
    kernel, bias = model.layers[-1].trainable_variables
    assert parameter_vector.select(model, [bias, model.layers[-1], kernel]) == [kernel, bias]
    assert parameter_vector.select(model, "*/kernel") == [
        v for v in everything if v.name == "kernel"
    ]
    assert parameter_vector.select(model, "inner") == everything[:4]
    assert parameter_vector.select(model, "a") == everything[:2]
    assert parameter_vector.select(model, model) == everything
    assert parameter_vector.select(model, kernel.path) == [kernel]


def test_frozen_variables_are_no_parameters(model):
    model.layers[0].trainable = False
    assert len(parameter_vector.select(model)) == 4
    with pytest.raises(ValueError, match=r"layers or trainable variables of outer. Received: 'a'"):
        parameter_vector.select(model, "a")


def test_packing(model):
    variables = parameter_vector.select(model)
    layout = parameter_vector.VectorLayout(variables)
    vector = layout.pack([v.value for v in variables])
    assert vector.shape == (layout.size,) == (model.count_params() - 6,)
    for variable, tensor in zip(variables, layout.unpack(vector), strict=True):
        np.testing.assert_array_equal(variable, tensor)
    flat = np.concatenate([np.ravel(v) for v in variables])
    np.testing.assert_array_equal(vector, flat)
    assert layout.dtype == tf.float32


def test_one_dtype():
    tensors = [tf.zeros(2), tf.zeros(2, tf.float64)]
    with pytest.raises(ValueError, match=r"of one dtype. Received: float32, float64"):
        parameter_vector.VectorLayout(tensors)
