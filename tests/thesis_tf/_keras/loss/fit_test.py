import warnings

import keras
import numpy as np
import pytest
from keras import layers

from thesis_tf import gradient_norms, hessian

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.arange(8) % 2
SPARSE, BINARY = keras.losses.SparseCategoricalCrossentropy, keras.losses.BinaryCrossentropy


def network(*last):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), *last])


def hidden():
    """Probabilities behind which Keras finds no logits."""
    return network(layers.Dense(2, "softmax"), layers.Reshape((2,)))


def two_outputs(order):
    i = keras.Input((3,))
    last = {"label": layers.Dense(2, name="label"), "number": layers.Dense(1, name="number")}
    return keras.Model(i, [last[name](i) for name in order])


PROBABILITIES, LOGITS = "expects probabilities", "expects logits"
CASES = {
    "logits": (network(layers.Dense(2)), SPARSE(from_logits=True), None),
    "softmax": (network(layers.Dense(2, "softmax")), SPARSE(), None),
    "softmax behind a layer": (hidden(), SPARSE(), None),
    "logits for probabilities": (network(layers.Dense(2)), SPARSE(), PROBABILITIES),
    "by name": (network(layers.Dense(2)), "sparse_categorical_crossentropy", PROBABILITIES),
    "one logit for a probability": (network(layers.Dense(1)), "binary_crossentropy", PROBABILITIES),
    "hidden probabilities for logits": (
        hidden(), SPARSE(from_logits=True),
        LOGITS),
    "hidden sigmoid for a logit": (
        network(layers.Dense(1, "sigmoid"), layers.Reshape((1,))), BINARY(from_logits=True),
        LOGITS),
    "sigmoid": (network(layers.Dense(1, "sigmoid")), BINARY(), None),
    "numbers": (network(layers.Dense(1)), "mse", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tool", ["norms", "hessian"])
def test_a_loss_that_does_not_fit_the_outputs_is_warned_of(case, tool):
    model, loss, message = CASES[case]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if tool == "norms":
            gradient_norms.per_example_gradient_norms(model, loss)(X, Y)
        else:
            hessian.HessianOperator(model, loss, (X, Y))
    said = [str(w.message) for w in found if "The loss expects" in str(w.message)]
    assert len(said) == (message is not None)
    assert not said or message in said[0]
    assert not said or [w.filename for w in found if str(w.message) == said[0]] == [__file__]


@pytest.mark.parametrize("order", [["label", "number"], ["number", "label"]])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_dict_of_losses_is_by_name(order, from_logits):
    model = two_outputs(order)
    loss = {"number": "mse", "label": SPARSE(from_logits=from_logits)}
    y = {"label": Y, "number": X[:, :1]}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        gradient_norms.per_example_gradient_norms(model, loss)(X, [y[name] for name in order])
    said = [str(w.message) for w in found if "The loss expects" in str(w.message)]
    assert len(said) == (not from_logits)
