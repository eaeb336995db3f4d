"""The loss, gradient and Hessian of every form of loss, against those of Keras' own loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf import hessian

N, T, K = 7, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
TOKENS = np.where(np.arange(T) < RNG.integers(1, T + 1, (N, 1)), RNG.integers(1, 9, (N, T)), 0)
CLASSES = RNG.integers(0, K, N)
WEIGHTS = RNG.uniform(0.3, 2, N).astype("float32")


def dense(units, activation=None):
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.L2(0.1)
    last = layers.Dense(units, activation, kernel_regularizer=regularizer)
    return keras.Sequential([keras.Input((3,)), layers.Dense(3, "tanh"), last])


def masked():
    keras.utils.set_random_seed(0)
    i = keras.Input((T,), dtype="int32")
    hidden = layers.Dense(3, "tanh")(layers.Embedding(9, 2, mask_zero=True)(i))
    return keras.Model(i, layers.Dense(K, "softmax")(hidden))


def two_outputs():
    keras.utils.set_random_seed(0)
    i = keras.Input((3,))
    hidden = layers.Dense(3, "tanh")(i)
    outputs = {"b": layers.Dense(2)(hidden), "a": layers.Dense(K, "softmax")(hidden)}
    return keras.Model(i, outputs)


def cross_entropy(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


# name: (model, data, loss, loss_weights)
FORMS = {
    "logits": (dense(K), (X, CLASSES), cross_entropy(), None),
    "softmax": (dense(K, "softmax"), (X, CLASSES), "sparse_categorical_crossentropy", None),
    "sigmoid": (dense(1, "sigmoid"), (X, CLASSES % 2), "binary_crossentropy", None),
    "weighted": (dense(2), (X, X[:, :2], WEIGHTS), "mse", None),
    "summed": (dense(K), (X, CLASSES, WEIGHTS), cross_entropy(reduction="sum"), None),
    "by weights": (dense(K), (X, CLASSES, WEIGHTS),
                   cross_entropy(reduction="mean_with_sample_weight"), None),
    "ignored": (dense(K), (X, np.where(CLASSES == 1, -1, CLASSES)), cross_entropy(ignore_class=-1),
                None),
    "masked": (masked(), (TOKENS, RNG.integers(0, K, (N, T))), "sparse_categorical_crossentropy",
               None),
    "two outputs": (two_outputs(), (X, {"a": CLASSES, "b": X[:, :2]}),
                    {"a": "sparse_categorical_crossentropy", "b": "mse"}, {"a": 0.5, "b": 2.0}),
}  # fmt: skip


def of_keras(model, data):
    """Returns (loss, gradient, Hessian) of Keras' `compute_loss` for the data as one batch."""
    x, y, *weight = (keras.tree.map_structure(tf.convert_to_tensor, part) for part in data)
    values = [v.value for v in model.trainable_variables]

    @tf.function
    def second():
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as inner:
                loss = model.compute_loss(x, y, model(x), *weight)
            parts = inner.gradient(loss, values)
            gradient = tf.concat([tf.reshape(g, [-1]) for g in parts], 0)
        rows = outer.jacobian(gradient, values)
        return loss, gradient, tf.concat([tf.reshape(r, [len(gradient), -1]) for r in rows], 1)

    return [value.numpy() for value in second()]


@pytest.mark.parametrize("form", FORMS)
def test_the_hessian_is_that_of_keras_own_loss(form):
    model, data, loss, loss_weights = FORMS[form]
    model.compile("sgd", loss, loss_weights=loss_weights)
    expected, gradient, matrix = of_keras(model, data)
    # Batches of 3, 3 and 1 examples: Keras' loss of all examples is not a mean over batches.
    operator = hessian.HessianOperator(model, None, data, batch_size=3)
    assert operator.loss() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(operator.gradient(), gradient, rtol=1e-4, atol=1e-5)
    found = operator @ np.eye(len(gradient), dtype="float32")
    np.testing.assert_allclose(found, matrix, rtol=1e-3, atol=1e-4 * abs(matrix).max())


@pytest.mark.parametrize("mode", ["forward_over_reverse", "reverse_over_reverse"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_gauss_newton_matrix_of_probabilities_is_that_of_their_logits(kind, mode):
    units, y = (K, CLASSES) if kind == "softmax" else (1, CLASSES % 2)
    of_probabilities, of_logits = dense(units, kind), dense(units)
    # Far logits, whose probabilities are clipped.
    for model in (of_probabilities, of_logits):
        model.layers[-1].kernel.assign(20 * model.layers[-1].kernel)
    loss = cross_entropy() if kind == "softmax" else keras.losses.BinaryCrossentropy(True)
    name = "sparse_categorical_crossentropy" if kind == "softmax" else "binary_crossentropy"
    options = {"mode": mode, "check": False}
    first = hessian.GaussNewtonOperator(of_probabilities, name, (X, y), **options)
    second = hessian.GaussNewtonOperator(of_logits, loss, (X, y), **options)
    identity = np.eye(first.shape[0], dtype="float32")
    matrix = second @ identity
    np.testing.assert_allclose(first @ identity, matrix, rtol=1e-4, atol=1e-5 * abs(matrix).max())


def test_a_loss_of_probabilities_and_their_logits_has_no_gauss_newton_matrix():
    model = dense(1, "sigmoid")
    loss = keras.losses.BinaryFocalCrossentropy()
    with pytest.raises(ValueError, match="uses both the probabilities"):
        hessian.GaussNewtonOperator(model, loss, (X, CLASSES % 2))
    hessian.HessianOperator(model, loss, (X, CLASSES % 2))
