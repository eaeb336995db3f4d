"""A loss that reads the model's weights has derivatives that no pass through its outputs has."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.hessian import GaussNewtonOperator, HessianOperator
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.issgd.training.steps import Steps

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
Y = X[:, :2]


def penalized(compiled=False):
    """Returns a model, and a loss that reads its kernel."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="first")])
    kernel = model.get_layer("first").kernel

    def loss(y, outputs):
        return tf.reduce_sum((outputs - y) ** 2, axis=1) + tf.reduce_sum(kernel.value**2)

    loss = tf.function(loss) if compiled else loss
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def tied():
    """Returns a model in which the regularizer of one layer reads the weights of another."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2)]
    )
    first, last = model.layers
    last.kernel.regularizer = lambda w: tf.reduce_sum(tf.matmul(first.kernel.value, w) ** 2)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


MODELS = {"loss": penalized, "compiled loss": lambda: penalized(True), "regularizer": tied}
TOOLS = {
    "norms": lambda model: per_example_gradient_norms(model, None, check=False)(X, Y),
    "gradients": lambda model: per_example_gradient_norms(model, None, check=False).with_gradients(
        X, Y, np.ones(4, "float32")
    ),
    "steps with norms": lambda model: Steps(
        model, batch_size=4, norms=True, examples=Examples(X, Y)
    )(X, Y, np.ones(4, "float32")),
    "Hessian": lambda model: HessianOperator(model, None, (X, Y), check=False),
    "Gauss-Newton": lambda model: GaussNewtonOperator(model, None, (X, Y), check=False),
}


@pytest.mark.parametrize("form", MODELS)
@pytest.mark.parametrize("tool", TOOLS)
def test_it_is_refused(tool, form):
    who = "A regularizer" if form == "regularizer" else "The loss"
    with pytest.raises(ValueError, match=rf"{who} reads .*first/kernel itself.*regularizer"):
        TOOLS[tool](MODELS[form]())


@pytest.mark.parametrize("form", MODELS)
def test_steps_without_norms_are_those_of_keras(form):
    model, other = MODELS[form](), MODELS[form]()
    Steps(model, batch_size=4, examples=Examples(X, Y))(X, Y, np.ones(4, "float32"))
    other.train_on_batch(X, Y)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_weights_of_other_models_may_be_read():
    model, other = tied(), keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[1].kernel.regularizer = None

    def loss(y, outputs):
        return tf.reduce_sum((other(outputs) - other(y)) ** 2, axis=1)

    losses, squares = per_example_gradient_norms(model, loss)(X, Y)
    assert losses.shape == squares.shape == (4,)
