import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.inputs import build, fixed_batch, input_spec

L = keras.layers


class Sum(keras.Model):
    """A subclassed model of two inputs."""

    def __init__(self):
        super().__init__(name="sum")
        self.left, self.right = L.Dense(3, name="left"), L.Dense(3, name="right")

    def call(self, inputs):
        return self.left(inputs["a"]) + self.right(inputs["b"])


def test_input_spec_keeps_the_structure_of_the_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), dtype="int32", name="b")
    rows = L.Flatten()(L.Embedding(5, 2)(b))
    model = keras.Model({"a": a, "b": [b]}, L.Dense(1)(L.Concatenate()([a, rows])))

    assert input_spec(model) == {
        "a": tf.TensorSpec((None, 3), tf.float32),
        "b": [tf.TensorSpec((None, 2), tf.int32)],
    }


def test_the_inputs_of_a_subclassed_model_are_an_argument():
    with pytest.raises(ValueError, match=r"inputs of model 'sum' is unknown.*inputs=x\[:1\]"):
        input_spec(Sum())

    example = {"a": np.ones((7, 4), np.float32), "b": tf.TensorSpec((None, 2), tf.float64)}
    assert input_spec(Sum(), example) == {
        "a": tf.TensorSpec((None, 4), tf.float32),
        "b": tf.TensorSpec((None, 2), tf.float64),
    }


def test_a_fixed_batch():
    x = keras.Input(batch_shape=(4, 3))
    assert fixed_batch(keras.Model(x, L.Dense(2)(x))) == 4
    assert fixed_batch(Sum()) is None
    sequential = keras.Sequential([L.Dense(2)])
    sequential(np.ones((5, 3)))
    assert fixed_batch(sequential) is None


def test_building():
    model, sequential = Sum(), keras.Sequential([L.Dense(3)])
    build(model, {"a": tf.TensorSpec((None, 4)), "b": tf.TensorSpec((None, 2))})
    build(sequential, tf.TensorSpec((None, 4)))

    assert [tuple(v.shape) for v in model.variables] == [(4, 3), (3,), (2, 3), (3,)]
    assert sequential.input_shape == (None, 4)


def test_a_built_model_is_not_called():
    class Counted(keras.Model):
        calls = 0

        def call(self, x):
            self.calls += 1
            return x

    model = Counted()
    model(np.ones((2, 3)))
    before = model.calls
    build(model, tf.TensorSpec((None, 3)))
    assert model.calls == before


def test_variables_are_made_for_the_strategy_of_the_model(two_devices):
    with tf.distribute.MirroredStrategy(two_devices).scope():
        model = Sum()
    build(model, {"a": tf.TensorSpec((None, 4)), "b": tf.TensorSpec((None, 2))})
    assert all(len(v.value.values) == 2 for v in model.variables)
