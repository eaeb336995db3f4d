"""Examples that aren't finite; labels are in _keras/loss/classes_test.py."""

import keras
import numpy as np
import pytest

from thesis_tf import hessian
from thesis_tf._keras.batches import Stream
from thesis_tf.hessian.checks import data as checks

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")


@pytest.mark.parametrize("part", ["x", "y"])
def test_an_operator_names_the_first_example_that_is_not_finite(part):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    data = {"x": X.copy(), "y": X[:, :1].copy()}
    data[part][[13, 17], 0] = np.nan
    with pytest.raises(hessian.SelfCheckError, match=r"in 2 of 20 examples, the first at 13:"):
        hessian.HessianOperator(model, "mse", (data["x"], data["y"]), batch_size=8)


def test_of_finite_examples_nothing_is_said():
    assert checks.not_finite(Stream((X, np.arange(20)), 8)) == ""
