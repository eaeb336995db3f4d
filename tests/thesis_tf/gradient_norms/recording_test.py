import keras
import numpy as np
import tensorflow as tf

from thesis_tf._keras import recording
from thesis_tf.gradient_norms.recording import (
    GradientRecorder,
    ReadingScope,
    is_floating,
    masked_like,
    widened,
)


def recorded(model, x, wanted=None):
    """Returns the recorder of one call of a model."""
    variables = model.trainable_variables if wanted is None else wanted
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        recorder = GradientRecorder(tape, {id(v) for v in variables})
        with ReadingScope(recorder), recording.recording(recorder):
            model(x)
    return recorder


def test_the_input_of_an_activation_is_captured_and_reads_are_counted():
    dense = keras.layers.Dense(2, "tanh", name="once")
    model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(), dense])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    recorder = recorded(model, x)
    (call,) = [call for call in recorder.calls if call.layer is dense]
    kernel, bias = dense.get_weights()
    np.testing.assert_allclose(call.inputs, np.maximum(x, 0), rtol=1e-6)
    np.testing.assert_allclose(call.last_captured, np.maximum(x, 0) @ kernel + bias, rtol=1e-5)
    np.testing.assert_allclose(call.outputs, np.tanh(call.last_captured), rtol=1e-5)
    assert [calls == [call] for calls in recorder.reads.values()] == [True, True]


def test_a_layer_that_is_called_twice_is_recorded_twice():
    inputs = keras.Input((3,))
    shared = keras.layers.Dense(3)
    model = keras.Model(inputs, shared(shared(inputs)))
    recorder = recorded(model, np.ones((2, 3), "f"))
    assert sum(call.layer is shared for call in recorder.calls) == 2
    assert [len(calls) for calls in recorder.reads.values()] == [2, 2]


def test_reads_of_other_variables_are_not_recorded():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    wanted = model.layers[1].trainable_variables
    recorder = recorded(model, np.ones((2, 3), "f"), wanted)
    assert set(recorder.reads) == {id(v) for v in wanted}


def test_narrow_tensors_are_widened_and_masks_are_kept():
    assert widened(tf.zeros(2, tf.bfloat16)).dtype == tf.float32
    assert widened(tf.zeros(2, tf.float64)).dtype == tf.float64
    assert is_floating(tf.zeros(2))
    assert not is_floating(tf.zeros(2, tf.int32))
    assert not is_floating(np.zeros(2))
    masked = tf.zeros(2)
    masked._keras_mask = tf.constant([True, False])
    assert masked_like(tf.ones(2), masked)._keras_mask is masked._keras_mask
