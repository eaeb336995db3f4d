import keras
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf._keras import recording
from thesis_tf._keras.tracing import time_order


def order_of_output(*stack):
    """Returns whether the last layer's steps are in reverse order."""
    model = keras.Sequential([keras.Input((5, 3)), *stack])
    found = []

    def look(x):
        recorder = recording.forward(model, x)
        orders = time_order.orders(recorder)
        found.append(orders[id(keras.tree.flatten(recorder.outputs)[0])])
        return recorder.outputs

    tf.function(look, autograph=False).get_concrete_function(tf.TensorSpec((None, 5, 3)))
    return found[0]


def lstm(**options):
    return layers.LSTM(2, return_sequences=True, **options)


@pytest.mark.parametrize(
    ("stack", "reverse"),
    [
        ([layers.Dense(2)], False),
        ([lstm()], False),
        ([lstm(go_backwards=True)], True),
        ([lstm(go_backwards=True), layers.Dense(2, "tanh")], True),
        ([lstm(go_backwards=True), lstm(go_backwards=True)], False),
        ([layers.Bidirectional(lstm())], False),
    ],
)
def test_the_order_of_the_steps(stack, reverse):
    assert order_of_output(*stack) is reverse


def test_orders_that_are_not_known():
    assert time_order.differ(True, None) is None
    assert time_order.differ(True, True) is False
    assert time_order.differ(True, False) is True
