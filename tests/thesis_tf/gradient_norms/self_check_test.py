import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms
from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import self_check

L = keras.layers
X = np.random.default_rng(0).normal(size=(1, 3)).astype("f")
Y = np.array([[0.5, -1.0]], "f")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def objective():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, kernel_regularizer="l2")])
    return Objective(model, "mse")


@pytest.mark.parametrize("regularization", [False, True])
def test_plain_squares_are_those_written_out(objective, regularization):
    kernel, bias = (v.numpy().astype(float) for v in objective.variables)
    delta = (X @ kernel + bias - Y)[0]  # the derivative of a mean of two squares
    gradient = np.outer(X[0], delta) + (2 * 0.01 * kernel if regularization else 0)
    plain = self_check.PlainSquares(objective, regularization=regularization)
    found = plain(tf.constant(X), tf.constant(Y))
    wanted = [np.square(gradient).sum(), delta @ delta]
    np.testing.assert_allclose(found.squares[0], wanted, rtol=1e-5)
    assert (found.rounding < 1e-4 * found.squares).all()


def plain_of(squares):
    return self_check.Plain(np.asarray(squares), np.zeros_like(squares))


def test_rounding_passes_and_an_error_does_not(objective):
    right = np.array([[1.0, 4.0], [2.0, 1e-9]])
    numbers = np.array([3, 7])
    assert self_check.compare(right * (1 + 1e-4), plain_of(right), objective, examples=numbers)
    # If a variable's gradient is much smaller than those of others, its error may be relative to
    # them.
    slightly_off = np.array([[0, 0], [0, 1e-6]])
    assert self_check.compare(right + slightly_off, plain_of(right), objective, examples=numbers)
    with pytest.raises(ValueError, match=r"of .*bias for example 3 should be 4, .* as 4\.4"):
        self_check.compare(right * [1.0, 1.1], plain_of(right), objective, examples=numbers)
    with pytest.raises(ValueError, match=r"came out as nan"):
        self_check.compare(right * np.nan, plain_of(right), objective, examples=numbers)


def test_what_is_not_finite_is_not_compared(objective):
    expected = plain_of(np.array([[np.inf, 1.0]]))
    found = np.ones((1, 2))
    assert not self_check.compare(found, expected, objective, examples=np.array([0]))


def test_the_first_examples_and_those_of_the_largest_losses_are_chosen():
    losses = np.array([0.5, 1.0, 0.1, np.nan, 9.0, 0.2, np.inf, 8.0, 0.3])
    np.testing.assert_array_equal(self_check.chosen(losses), [0, 1, 4, 7])
    assert not len(self_check.chosen(np.array([np.nan])))


def model_of(*layers, shape=(8,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *layers])


def digits(examples=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, 8)).astype("f"), rng.integers(0, classes, examples)


def fitted(scale, softmax):
    """A network whose labels are its own guesses, by a wide margin."""
    model = model_of(L.Dense(16, "relu"), L.Dense(16, "relu"), L.Dense(3))
    head = model.layers[-1]
    head.kernel.assign(head.kernel * scale)
    x, _ = digits()
    y = model(x).numpy().argmax(1)
    if not softmax:
        return model, LOSS, x, y
    model = keras.Sequential([model, L.Softmax()])
    model.build((None, 8))
    return model, "sparse_categorical_crossentropy", x, y


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("scale", [10, 100, 1000])
def test_fitted_models_are_not_refused(scale, softmax):
    model, loss, x, y = fitted(scale, softmax)
    f = gradient_norms.per_example_gradient_norms(model, loss)
    for start in range(0, len(x), 8):
        assert f.check(x[start : start + 8], y[start : start + 8])


def normalized(layer, mean):
    model = model_of(layer, L.Dense(8, "tanh"), L.Dense(3))
    x, y = digits()
    x += np.float32(mean)
    if isinstance(layer, L.BatchNormalization):
        layer.moving_mean.assign(x.mean(0))
        layer.moving_variance.assign(x.var(0))
    return model, x, y


@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e5])
@pytest.mark.parametrize("kind", [L.BatchNormalization, L.LayerNormalization])
def test_inputs_far_from_zero_are_not_refused(kind, mean):
    model, x, y = normalized(kind(), mean)
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    for start in range(0, len(x), 10):
        assert f.check(x[start : start + 10], y[start : start + 10])


def test_batch_normalization_keeps_the_digits_of_inputs_far_from_zero():
    """gamma's gradient is (x - m) / s y for the loss output . y, here in NumPy's float64."""
    layer = L.BatchNormalization()
    _, x, _ = normalized(layer, 1e4)
    y = np.random.default_rng(1).normal(size=x.shape).astype("f")
    f = gradient_norms.per_example_gradient_norms(
        keras.Sequential([keras.Input((8,)), layer]),
        lambda y, outputs: tf.reduce_sum(y * outputs, axis=-1),
        parameters=layer.gamma,
    )
    mean, variance = (np.asarray(v, float) for v in (layer.moving_mean, layer.moving_variance))
    normal = (x - mean) / np.sqrt(variance + layer.epsilon)
    np.testing.assert_allclose(f(x, y)[1], ((normal * y) ** 2).sum(1), rtol=1e-5)


class Scaled(L.Layer):
    """x w, elementwise."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def call(self, x):
        return x * self.w


def wrong_rule(error):
    class Wrong(Scaled):
        pass

    @gradient_norms.register(Wrong, captures=())
    def wrong(call):
        yield call.layer.w, gradient_norms.Full(error(call.inputs * call.gradient, call))

    return Wrong()


ERRORS = {
    "a factor": lambda right, call: right * 1.1,
    "nothing": lambda right, call: right * 0,
    "of large inputs only": lambda right, call: (
        call.gradient * tf.clip_by_value(call.inputs, -4, 4)
    ),
    "of another example": lambda right, call: right[::-1],
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_wrong_rules_are_found(name, training, with_gradients):
    layer = wrong_rule(ERRORS[name])
    model = model_of(layer, L.Dropout(0.5), L.Dense(3, kernel_initializer="glorot_normal"))
    x, y = digits()
    x[20] *= 50  # of the largest loss
    y[20] = (model(x[20:21]).numpy().argmax() + 1) % 3
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=training)
    with pytest.raises(ValueError, match=r"norm of .*w for example \d+ should be .* came out as"):
        f.with_gradients(x, y, np.ones(40, "f")) if with_gradients else f(x, y)


def test_fitted_examples_hide_no_wrong_rule():
    layer = wrong_rule(ERRORS["a factor"])
    model = model_of(layer, L.Dense(3))
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 100)
    x, _ = digits()
    y = model(x).numpy().argmax(1)
    y[30] = (y[30] + 1) % 3  # one example that isn't fitted
    with pytest.raises(ValueError, match=r"norm of .*w for example 30 should be"):
        gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)


class CenteredInTraining(L.Layer):
    """Subtracts the mean of a batch, and counts batches."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if not training:
            return x
        self.count.assign(self.count + 1)
        return x - tf.reduce_mean(x, axis=0, keepdims=True)


@pytest.mark.parametrize("with_gradients", [False, True])
def test_examples_that_depend_on_one_another_in_training_only_are_found(with_gradients):
    layer = CenteredInTraining()
    model = model_of(layer, L.Dense(3))
    x, y = digits()
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=True)
    with pytest.raises(ValueError, match="depends on other examples of its batch"):
        f.with_gradients(x, y, np.ones(40, "f")) if with_gradients else f(x, y)
    assert layer.count == 1  # the check's passes leave no trace
    gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)


class InTraining(L.Layer):
    """Calls a layer in training only."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x, training=False):
        return self.layer(x) if training else x


@pytest.mark.parametrize("random", [L.Dropout(0.5), L.Lambda(lambda x: x * tf.random.uniform([]))])
def test_models_that_draw_random_numbers_are_checked_without(random):
    model = model_of(L.Dense(4), InTraining(random), L.Dense(3))
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=True)
    assert f.check(*digits())
