import keras
import pytest
from keras import layers

from thesis_tf._keras.loss.last_activation import bounded_activation


def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, "sigmoid")])
    i = keras.Input((4,))
    return keras.Model(i, layers.Reshape((2, 2))(inner(i)))


def stack(*last):
    return keras.Sequential([keras.Input((4,)), layers.Dense(4), *last])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (stack(), None),
        (stack(layers.LeakyReLU()), None),
        (stack(layers.Dense(2, "sigmoid")), "sigmoid"),
        (stack(layers.Activation("softmax")), "softmax"),
        (stack(layers.ReLU(), layers.Dropout(0.5), layers.Reshape((2, 2))), "relu"),
        (nested(), "sigmoid"),
    ],
)
def test_the_activation_at_the_end(model, name):
    assert bounded_activation(model) == name
