import keras
import numpy as np
import pytest

from thesis_tf._keras.tracing.float64 import in_float64

dense = keras.layers.Dense


class Late(keras.layers.Layer):
    def call(self, x):
        return keras.layers.Activation("tanh")(x)


def sequential():
    return keras.Sequential([keras.Input((5,)), dense(4, "tanh"), dense(3)])


def functional():
    inputs = keras.Input((5,))
    return keras.Model(inputs, sequential()(dense(5)(inputs)))


def deep():
    return keras.Sequential([keras.Input((5,)), keras.Sequential([functional(), Late()])])


@pytest.mark.parametrize("make", [sequential, functional, deep])
def test_nothing_is_rounded_to_float32(make):
    keras.utils.set_random_seed(0)
    model = make()
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    with in_float64(model), keras.StatelessScope() as scope:
        for variable in model.weights:
            scope.add_update((variable, np.asarray(variable.value, "float64")))
        found = model(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float64"

    def exact(x, layer):
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = (w.astype("float64") for w in layer.get_weights())
            x = x @ kernel + bias
            return np.tanh(x) if layer.activation is keras.activations.tanh else x
        if isinstance(layer, Late):
            return np.tanh(x)
        for inner in getattr(layer, "layers", []):
            x = exact(x, inner)
        return x

    np.testing.assert_allclose(found, exact(x.astype("float64"), model), rtol=1e-13, atol=1e-14)


def test_everything_is_put_back():
    model = deep()
    x = np.ones((2, 5), "float32")
    before = model(x)
    with pytest.raises(ZeroDivisionError), in_float64(model):
        raise ZeroDivisionError
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    np.testing.assert_array_equal(model(x), before)
    assert model(x).dtype == "float32"
