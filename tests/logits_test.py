"""Models that end in a softmax or sigmoid: losses and norms are those of Keras' own training step.

Keras computes cross-entropies from the logits wherever it finds them, and from probabilities that
are clipped at 1e-7 elsewhere. The examples have logits so far apart that the two differ.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms

L, ops = keras.layers, keras.ops
CLASSES = 3


class OwnWeights(L.Layer):
    """A layer without a rule whose output has logits."""

    def __init__(self, activation):
        super().__init__()
        self.softmax = activation

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], CLASSES), name="w")

    def call(self, x):
        return self.softmax(ops.matmul(x, self.w))


class Registered(OwnWeights):
    """A layer with a rule for its output, which doesn't know of logits."""


@gradient_norms.register(Registered, captures=())
def registered(call):
    d = gradient_norms.with_places(call.gradient)
    yield call.layer.w, gradient_norms.Outer(gradient_norms.with_places(call.inputs), d)


class Subclassed(keras.Model):
    """A model whose output is that of an operation, of no layer."""

    def __init__(self, activation):
        super().__init__()
        self.dense, self.softmax = L.Dense(CLASSES), activation

    def call(self, x):
        return self.softmax(self.dense(x))


class OwnSubclassed(Subclassed):
    """A model that has weights of its own, too."""

    def build(self, shape):
        self.dense.build(shape)
        self.offset = self.add_weight(shape=(shape[-1],), name="offset")

    def call(self, x):
        return super().call(x + self.offset)


def nested(head):
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((5,)), *head])
    return keras.Model(inputs, keras.Sequential([inner])(L.Dense(5)(inputs)))


def sequential(*layers, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *layers])


SERIES = (3, 4)
MODELS = {
    "Dense": lambda: sequential(L.Dense(CLASSES, activation="softmax")),
    "Dense, behind another": lambda: sequential(L.Dense(5, "relu"), L.Dense(CLASSES, "softmax")),
    "Dense, a function": lambda: sequential(L.Dense(CLASSES, activation=tf.nn.softmax)),
    "Activation": lambda: sequential(L.Dense(CLASSES), L.Activation("softmax")),
    "Softmax": lambda: sequential(L.Dense(CLASSES), L.Softmax()),
    "nested": lambda: nested([L.Dense(CLASSES, "softmax")]),
    "nested, Softmax": lambda: nested([L.Dense(CLASSES), L.Softmax()]),
    "subclassed": lambda: Subclassed(ops.softmax),
    "subclassed, a layer": lambda: Subclassed(L.Softmax()),
    "subclassed, tf.nn": lambda: Subclassed(tf.nn.softmax),
    "subclassed, own weights": lambda: OwnSubclassed(ops.softmax),
    "subclassed, own weights, tf.nn": lambda: OwnSubclassed(tf.nn.softmax),
    "own layer": lambda: sequential(L.Dense(4), OwnWeights(keras.activations.softmax)),
    "own layer, tf.nn": lambda: sequential(L.Dense(4), OwnWeights(tf.nn.softmax)),
    "own layer, registered": lambda: sequential(L.Dense(4), Registered(ops.softmax)),
    "own layer, registered, tf.nn": lambda: sequential(L.Dense(4), Registered(tf.nn.softmax)),
    "own layer on a series": lambda: sequential(OwnWeights(ops.softmax), shape=SERIES),
    "Dense on a series": lambda: sequential(L.Dense(CLASSES, "softmax"), shape=SERIES),
    "EinsumDense": lambda: sequential(
        L.EinsumDense("abc,cd->abd", (None, CLASSES), bias_axes="d", activation="softmax"),
        shape=SERIES,
    ),
    "TimeDistributed": lambda: sequential(
        L.TimeDistributed(L.Dense(CLASSES, "softmax")), shape=SERIES
    ),
    "Conv1D": lambda: sequential(L.Conv1D(CLASSES, 2, activation="softmax"), shape=SERIES),
    "Conv1DTranspose": lambda: sequential(
        L.Conv1DTranspose(CLASSES, 2, activation="softmax"), shape=SERIES
    ),
    "SeparableConv1D": lambda: sequential(
        L.SeparableConv1D(CLASSES, 2, activation="softmax"), shape=SERIES
    ),
    "DepthwiseConv1D": lambda: sequential(L.DepthwiseConv1D(2, activation="softmax"), shape=(4, 3)),
    "Softmax of the first axis": lambda: sequential(
        L.Dense(CLASSES), L.Softmax(axis=1), shape=SERIES
    ),
    "SimpleRNN": lambda: sequential(L.SimpleRNN(CLASSES, activation="softmax"), shape=SERIES),
    "SimpleRNN, series": lambda: sequential(
        L.SimpleRNN(CLASSES, activation="softmax", return_sequences=True), shape=SERIES
    ),
    "SimpleRNN, unrolled": lambda: sequential(
        L.SimpleRNN(CLASSES, activation="softmax", unroll=True), shape=SERIES
    ),
    "float32 behind bfloat16": lambda: sequential(
        L.Dense(CLASSES, dtype="mixed_bfloat16"), L.Activation("softmax", dtype="float32")
    ),
}
SIGMOIDS = {
    "Dense": lambda: sequential(L.Dense(1, activation="sigmoid")),
    "Activation": lambda: sequential(L.Dense(1), L.Activation("sigmoid")),
    "two outputs": lambda: sequential(L.Dense(2, activation="sigmoid")),
    "subclassed, tf": lambda: Subclassed(tf.sigmoid),
    "subclassed, own weights": lambda: OwnSubclassed(tf.sigmoid),
    "own layer": lambda: sequential(L.Dense(4), OwnWeights(ops.sigmoid)),
    "nested": lambda: nested([L.Dense(2, "sigmoid")]),
    "LSTM": lambda: sequential(L.LSTM(2, activation="sigmoid"), shape=SERIES),
}


def keras_own(model, loss, x, y):
    """Returns (losses, [gradients]) of Keras' loss, one example at a time, as `fit` traces it."""
    model.compile("sgd", loss)

    @tf.function(autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            value = model.compute_loss(x, y, model(x))
        return value, [
            tf.convert_to_tensor(g) for g in tape.gradient(value, model.trainable_weights)
        ]

    steps = [step(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    return np.stack([s[0] for s in steps]), [np.stack(g) for g in zip(*[s[1] for s in steps])]  # noqa: B905


def built(make, x):
    keras.utils.set_random_seed(1)
    model = make()
    model(x)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(2).normal(size=variable.shape))
    return model


def compare(make, loss, x, y):
    model = built(make, x)
    wanted, gradients = keras_own(model, loss, x, y)
    squares = {
        v.path: (g.reshape(len(x), -1) ** 2).sum(1)
        for v, g in zip(model.trainable_weights, gradients, strict=True)
    }
    whole = sum(squares.values())
    narrow = any(layer.compute_dtype == "bfloat16" for layer in model._flatten_layers())
    close = {"rtol": 0.05 if narrow else 1e-4, "atol": 1e-9}
    f = gradient_norms.per_example_gradient_norms(model, loss)
    found, norms = f(x, y)
    np.testing.assert_allclose(found, wanted, **close)
    np.testing.assert_allclose(norms, whole, **close)
    each = f._variable_squares(tf.constant(x), tf.constant(y))
    for variable, square in zip(f.objective.variables, each, strict=True):
        np.testing.assert_allclose(square, squares[variable.path], rtol=close["rtol"], atol=1e-6)
    scales = np.linspace(0.5, 2, len(x)).astype("f")
    found, norms, means = f.with_gradients(x, y, scales)
    np.testing.assert_allclose(norms, whole, **close)
    for variable, gradient, mean in zip(f.objective.variables, gradients, means, strict=True):
        expected = np.tensordot(scales, gradient, 1) / len(x)
        np.testing.assert_allclose(
            mean, expected, rtol=close["rtol"], atol=close["rtol"] * abs(expected).max(),
            err_msg=variable.path,
        )  # fmt: skip
    return whole


def inputs_for(make, seed=0):
    """Returns inputs of five examples, most of them far from zero, and the shape of the outputs."""
    shape = (5, *make().input_shape[1:]) if hasattr(make(), "input_shape") else (5, 4)
    x = np.random.default_rng(seed).normal(size=shape).astype("f")
    x *= np.array([1, 30, 100, 0.1, 300], "f").reshape(-1, *[1] * (x.ndim - 1))
    return x, built(make, x)(x).shape


@pytest.mark.parametrize("name", MODELS)
def test_softmax(name):
    x, outputs = inputs_for(MODELS[name])
    y = np.random.default_rng(3).integers(0, CLASSES, outputs[:-1])
    compare(MODELS[name], "sparse_categorical_crossentropy", x, y)


@pytest.mark.parametrize("name", SIGMOIDS)
def test_sigmoid(name):
    x, outputs = inputs_for(SIGMOIDS[name])
    y = np.random.default_rng(3).integers(0, 2, outputs).astype("f")
    compare(SIGMOIDS[name], "binary_crossentropy", x, y)


@pytest.mark.parametrize("name", ["Dense", "nested", "subclassed, tf.nn", "own layer"])
@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.sparse_categorical_crossentropy,
        "categorical_crossentropy",
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        "mse",
    ],
    ids=["class", "function", "one-hot", "smoothed", "mse"],
)
def test_losses(name, loss):
    x, outputs = inputs_for(MODELS[name])
    y = np.random.default_rng(3).integers(0, CLASSES, outputs[:-1])
    if "parse" not in str(getattr(loss, "name", loss)):
        y = np.eye(CLASSES, dtype="f")[y]
    compare(MODELS[name], loss, x, y)


def test_closed_form():
    """2 x^2 (1 - p)^2 with logits x w; the last example is so far off that clipping hides it."""
    model = sequential(L.Dense(2, use_bias=False, activation="softmax"), shape=(1,))
    model.set_weights([np.array([[1.0, 0.0]], "f")])
    x, y = np.array([[1.0], [0.5], [2.0], [20.0]], "f"), np.array([0, 1, 1, 1])
    logits = np.stack([x[:, 0], np.zeros(4)], axis=1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = p[np.arange(4), y]
    f = gradient_norms.per_example_gradient_norms(model, "sparse_categorical_crossentropy")
    losses, squares = f(x, y)
    np.testing.assert_allclose(losses, -np.log(p), rtol=1e-5)
    np.testing.assert_allclose(squares, 2 * x[:, 0] ** 2 * (1 - p) ** 2, rtol=1e-5)
