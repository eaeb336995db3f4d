"""The losses of examples against Keras' `evaluate`, and their gradient against that of `fit`."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf._keras.objective import Objective

N, T, K = 6, 5, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
SERIES = RNG.normal(size=(N, T, 3)).astype("float32")
TOKENS = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [6, 7, 8, 9, 1], [2] * 5, [3, 0, 0, 0, 0],
                   [1, 2, 0, 0, 0]])  # fmt: skip
CLASSES = RNG.integers(0, K, N)
STEPS = RNG.integers(0, K, (N, T))
EXAMPLES = RNG.uniform(0.5, 2, N).astype("float32")


def dense(units, activation=None, dtype="float32", scale=1.0):
    keras.utils.set_random_seed(0)
    init = keras.initializers.RandomNormal(0, scale, seed=1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, "tanh", dtype=dtype),
            layers.Dense(units, activation, kernel_initializer=init, dtype=dtype),
        ]
    )


def series(units, activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((T, 3)), layers.Dense(units, activation)])


def masked(units):
    keras.utils.set_random_seed(0)
    tokens = keras.Input((T,), dtype="int32")
    hidden = layers.Embedding(10, 4, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.Dense(units)(hidden))


def check(model, x, y, weight=None, *, rtol=1e-5, evaluate=False):
    """Compares one batch with `evaluate` and with the gradient of Keras' own `compute_loss`."""
    objective = Objective(model, None)
    parameters, constants = objective.read()
    x, y = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
    labels = y if weight is None else WeightedLabels(y, weight)
    weights = tf.fill([N], 1 / N)

    @tf.function
    def ours(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            loss = objective.total(parameters, constants, x, labels, weights)
        return loss, tape.gradient(loss, parameters, unconnected_gradients="zero")

    def keras_own():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False), weight)
        variables = model.trainable_variables
        return loss, tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")

    loss, gradient = ours(parameters)
    expected, expected_gradient = keras_own()
    if evaluate:
        evaluated = model.evaluate(x, y, sample_weight=weight, batch_size=N, verbose=0)
        assert float(expected) == pytest.approx(np.atleast_1d(evaluated)[0], rel=1e-6)
    scale = N if objective.example_loss.sums else 1  # `total` is then 1 / n of the sum
    assert float(loss) * scale == pytest.approx(float(expected), rel=rtol)
    for found, wanted in zip(gradient, expected_gradient, strict=True):
        found, wanted = (tf.convert_to_tensor(g).numpy() for g in (found, wanted))
        np.testing.assert_allclose(found * scale, wanted, rtol=rtol, atol=rtol * abs(wanted).max())
    return objective, (parameters, constants, x, labels)


ONE_OUTPUT = {
    "mse": ("mse", dense(2), X[:, :2]),
    "mse of (n,) and (n, 1)": ("mse", dense(1), X[:, 0]),
    "mse of (n, 1) and (n, 1)": ("mse", dense(1), X[:, :1]),
    "mae": ("mae", dense(2), X[:, :2]),
    "Huber": (keras.losses.Huber(0.1), dense(2), X[:, :2]),
    "log_cosh": ("log_cosh", dense(2), X[:, :2]),
    "poisson": ("poisson", dense(2, "softplus"), abs(X[:, :2])),
    "cosine": ("cosine_similarity", dense(2), X[:, :2]),
    "hinge": ("hinge", dense(1), np.sign(X[:, :1])),
    "kld": ("kl_divergence", dense(K, "softmax"), np.eye(K, dtype="float32")[CLASSES]),
    "Tversky by example": (keras.losses.Dice(axis=1), dense(2, "sigmoid"), abs(X[:, :2]) > 0.5),
    "logits": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), dense(K), CLASSES),
    "softmax": ("sparse_categorical_crossentropy", dense(K, "softmax"), CLASSES),
    "far softmax": ("sparse_categorical_crossentropy", dense(K, "softmax", scale=80), CLASSES),
    "one-hot": ("categorical_crossentropy", dense(K, "softmax", scale=80), np.eye(K)[CLASSES]),
    "smoothed": (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), dense(K, "softmax"),
                 np.eye(K)[CLASSES]),
    "focal": (keras.losses.CategoricalFocalCrossentropy(), dense(K, "softmax"), np.eye(K)[CLASSES]),
    "sigmoid": ("binary_crossentropy", dense(1, "sigmoid"), CLASSES % 2),
    "far sigmoid": ("binary_crossentropy", dense(3, "sigmoid", scale=80), X > 0),
    "binary focal": (keras.losses.BinaryFocalCrossentropy(), dense(3, "sigmoid"), X > 0),
    "binary logits": (keras.losses.BinaryCrossentropy(from_logits=True), dense(3), X > 0),
    "ce": ("ce", dense(K, "softmax"), CLASSES),
    "a function": (lambda y, o: tf.abs(y - o) ** 3, dense(1), X[:, 0]),
    "steps": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), series(K), STEPS),
    "steps, softmax": ("sparse_categorical_crossentropy", series(K, "softmax"), STEPS),
    "steps, mse": ("mse", series(2), SERIES[..., :2]),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_OUTPUT)
def test_the_loss_of_one_output(name):
    loss, model, y = ONE_OUTPUT[name]
    model.compile("sgd", loss)
    check(model, X if model.input_shape == (None, 3) else SERIES, y, evaluate=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_labels_of_any_dtype_with_outputs_of_any_precision(dtype, precision):
    model = dense(2, "sigmoid" if dtype == "bool" else None, dtype=precision)
    y = (
        (X[:, :2] > 0)
        if dtype == "bool"
        else np.round(3 * X[:, :2] if dtype != "uint8" else 3 * abs(X[:, :2]))
    )
    model.compile("sgd", "binary_crossentropy" if dtype == "bool" else "mse")
    # Keras' loss is float32 even if the model is float64.
    check(model, X, y.astype(dtype), rtol={"float64": 1e-5, "float32": 1e-5}.get(precision, 0.02))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_many_classes_in_sixteen_bits(precision):
    model = dense(3000, dtype=precision)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    check(model, X, np.array([257, 999, 1001, 2049, 2999, 2051]), rtol=0.02)
    model = dense(1, dtype=precision)
    model.layers[-1].bias.assign([300.0])
    model.compile("sgd", "mse")
    check(model, X, 300 + X[:, :1], rtol=0.02)


WEIGHTS = {
    "none": None,
    "of examples": EXAMPLES,
    "of examples, (n, 1)": EXAMPLES[:, None],
    "with zeros": EXAMPLES * (CLASSES > 0),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_weights_and_reductions(reduction, weight):
    model = dense(K)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy
    model.compile("sgd", cross_entropy(from_logits=True, reduction=reduction))
    check(model, X, CLASSES, WEIGHTS[weight])
    model = dense(2)
    model.compile("sgd", keras.losses.MeanSquaredError(reduction=reduction))
    check(model, X, X[:, :2], WEIGHTS[weight])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("has_mask", [False, True])
def test_masked_and_ignored_steps(reduction, ignored, weighted, has_mask):
    y = np.where(STEPS == 2, -1, STEPS) if ignored else STEPS
    if ignored:
        y[3] = -1  # an example without any label
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction, ignore_class=-1 if ignored else None
    )
    model, x = (masked(K), TOKENS) if has_mask else (series(K), SERIES)
    model.compile("sgd", loss)
    weight = RNG.uniform(0.5, 2, (N, T)).astype("float32") if weighted else None
    check(model, x, y, weight, evaluate=True)


def test_ignored_classes_of_plain_labels():
    model = dense(K)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile("sgd", loss)
    y = np.where(CLASSES == 1, -1, CLASSES)
    check(model, X, y)
    # That of the labelled examples alone.
    alone = model.evaluate(X[y >= 0], y[y >= 0], verbose=0)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(alone, rel=1e-6)


def test_weights_of_examples_are_not_those_of_time_steps():
    """Keras multiplies losses (n, T) by weights (n,) along T if both are equal: not here."""
    model, y, weight = series(K), RNG.integers(0, K, (N, T)), EXAMPLES[:T]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    objective = Objective(model, None)
    labels = WeightedLabels(tf.constant(y[:T]), tf.constant(weight))
    found = objective.example_losses(labels, tf.constant(model.predict(SERIES[:T], verbose=0)))
    expected = [
        w * model.evaluate(SERIES[i : i + 1], y[i : i + 1], verbose=0) for i, w in enumerate(weight)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def two_outputs(form):
    keras.utils.set_random_seed(0)
    i = keras.Input((3,))
    hidden = layers.Dense(4, "tanh")(i)
    a = layers.Dense(K, "softmax", name="a")(hidden)
    b = layers.Dense(2, name="b")(hidden)
    return keras.Model(i, {"dict": {"b": b, "a": a}, "list": [a, b]}[form])


def forms_of_losses():
    cross, mse = "sparse_categorical_crossentropy", keras.losses.MeanSquaredError()
    named, listed = {"a": cross, "b": mse}, [cross, mse]
    for form, loss in (("dict", named), ("list", named), ("list", listed)):
        for weights in (None, {"a": 0.3, "b": 2.0} if isinstance(loss, dict) else [0.3, 2.0]):
            yield form, loss, weights
    yield "dict", {"a": cross}, None
    yield "list", [None, mse], None


@pytest.mark.parametrize(("form", "loss", "loss_weights"), list(forms_of_losses()))
@pytest.mark.parametrize("weighted", [False, True])
def test_several_outputs(form, loss, loss_weights, weighted):
    model = two_outputs(form)
    model.compile("sgd", loss, loss_weights=loss_weights)
    y = {"a": CLASSES, "b": X[:, :2]}
    y = y if form == "dict" else list(y.values())
    if loss == [None, loss[1] if isinstance(loss, list) else None]:
        y = [CLASSES, X[:, :2]]
    check(model, X, y, EXAMPLES if weighted else None, evaluate=weighted)


def test_one_loss_for_all_outputs():
    model = two_outputs("list")
    model.compile("sgd", "mse")
    check(model, X, [np.eye(K, dtype="f")[CLASSES], X[:, :2]])


@pytest.mark.parametrize(
    ("loss", "y"),
    [(["mse"], X[:, :2]), ({"out": "mse"}, X[:, :2])],
)
def test_one_output_in_a_list_or_dict(loss, y):
    i = keras.Input((3,))
    model = keras.Model(i, layers.Dense(2, name="out")(i))
    model.compile("sgd", loss)
    check(model, X, y)


def test_regularizers_count_as_in_keras():
    model = dense(2)
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.5)
    for reduction in ("sum_over_batch_size", "sum"):
        model.compile("sgd", keras.losses.MeanSquaredError(reduction=reduction))
        objective = Objective(model, None)
        weights = tf.fill([N], 1 / N)
        total = objective.total(*objective.read(), X, tf.constant(X[:, :2]), weights)
        expected = model.evaluate(X, X[:, :2], batch_size=N, verbose=0)
        assert float(total) * (N if reduction == "sum" else 1) == pytest.approx(expected, rel=1e-5)


def test_divisors_of_a_data_set_are_those_of_one_batch_of_it():
    model = masked(K)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    objective = Objective(model, None)
    objective.measure_divisors((TOKENS[i : i + 2], STEPS[i : i + 2]) for i in range(0, N, 2))
    weights = tf.fill([2], 1 / N)
    total = sum(
        objective.total(
            *objective.read(), TOKENS[i : i + 2], tf.constant(STEPS[i : i + 2]), weights
        )
        for i in range(0, N, 2)
    )
    expected = model.evaluate(TOKENS, STEPS, batch_size=N, verbose=0)
    assert float(total) == pytest.approx(expected, rel=1e-5)


class OwnCall(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return tf.reduce_sum(y_pred)


class OwnLoss(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_sum(y_pred)


@pytest.mark.parametrize(
    ("model", "loss", "y", "message"),
    [
        (dense(2), OwnCall(), X[:, :2], "implements `call`"),
        (OwnLoss([keras.Input((3,)), *dense(2).layers]), "mse", X[:, :2], "compute_loss"),
        (two_outputs("list"), "mse", CLASSES, "labels must be a list or dict"),
        (two_outputs("dict"), "mse", [CLASSES, X], "labels must be a dict"),
        (two_outputs("dict"), {"a": "mse", "c": "mse"}, CLASSES, "`loss` must be a dict"),
        (dense(2), keras.losses.Dice(), X[:, :2], "returns a scalar"),
        (dense(1), lambda y, o: tf.reduce_mean((y - o) ** 2, 0), X[:, :1], "returns 1 for 6"),
        (
            two_outputs("list"),
            lambda y, o: tf.reduce_mean((y[1] - o[1]) ** 2, 0), [CLASSES, X[:, :2]],
            "returns 2 for 6",
        ),
        (dense(2), ["mse", "mae"], X[:, :2], "`loss` must be a list or dict of one"),
        (
            two_outputs("list"),
            [keras.losses.MeanSquaredError(reduction="sum"), keras.losses.MeanSquaredError()],
            [np.eye(K)[CLASSES], X[:, :2]],
            "sum for all or for none",
        ),
    ],
)  # fmt: skip
def test_what_has_no_losses_of_examples_is_refused(model, loss, y, message):
    model.compile("sgd", loss)

    def losses():
        objective = Objective(model, loss if isinstance(loss, types.FunctionType) else None)
        outputs = objective.outputs(*objective.read(), X)
        return objective.example_losses(keras.tree.map_structure(tf.constant, y), outputs)

    with pytest.raises((ValueError, TypeError), match=message):
        losses()
