import itertools

import keras
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective


def dense(units):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])


@pytest.mark.parametrize("function", [keras.losses.mean_squared_error, "mse"])
def test_a_name_is_its_function(function):
    model = dense(2)
    assert Objective(model, function).loss_name == Objective(model, "mse").loss_name


def test_descriptions_distinguish_losses():
    def power(exponent):
        return lambda y, o: tf.abs(y - o) ** exponent

    huber = keras.losses.Huber
    losses = ["mse", "mae", huber(), huber(2.0), power(2), power(3), lambda y, o: y - o,
              lambda y, o: o - y, {"a": "mse"}, {"b": "mse"}, ["mse", None]]  # fmt: skip
    model = dense(2)
    names = [Objective(model, loss).loss_name for loss in losses]
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        assert first != second, (i, j)
    assert Objective(model, power(2)).loss_name == names[4]
