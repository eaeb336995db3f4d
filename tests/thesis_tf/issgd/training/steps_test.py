import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.issgd.training.steps import Steps, classification_errors

BATCH = 4
RATE, MOMENTUM = 0.25, 0.875  # exact in float32, in which an optimizer stores them
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(dtype="float64", optimizer=None, regularizer=None, rate=0.0, norm=False):
    """Returns a compiled classifier of 5 inputs and 3 classes."""
    keras.utils.set_random_seed(3)
    inputs = "float64" if dtype == "float64" else "float32"
    options = {"dtype": dtype, "kernel_regularizer": regularizer}
    layers = [keras.Input((5,), dtype=inputs), keras.layers.Dense(6, "tanh", **options)]
    if norm:
        layers.append(keras.layers.BatchNormalization(dtype=dtype))
    if rate:
        layers.append(keras.layers.Dropout(rate, seed=11, dtype=dtype))
    model = keras.Sequential([*layers, keras.layers.Dense(3, **options)])
    if optimizer is None:
        optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)
    model.compile(optimizer, LOSS)
    return model


def drawn(steps=1, seed=0):
    """Returns (x, y, scales) of some steps."""
    rng = np.random.default_rng(seed)
    size = steps * BATCH
    x, y = rng.normal(size=(size, 5)), rng.integers(0, 3, size)
    return x, y, rng.uniform(0.5, 2, size).astype(np.float32)


EXAMPLES = Examples(*drawn()[:2])


def gradients_by_hand(model, x, y, scales):
    """Returns (scaled loss, gradients) of one step, without the code of `Steps`."""
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
        loss = tf.reduce_mean(tf.cast(scales, losses.dtype) * losses)
        total = loss + sum(
            tf.cast(v.regularizer(v.value), loss.dtype)
            for v in model.trainable_variables
            if v.regularizer
        )
    found = tape.gradient(total, [v.value for v in model.trainable_variables])
    return loss.numpy(), [tf.convert_to_tensor(g).numpy() for g in found]


def step_by_hand(model, batches, rate=RATE, momentum=MOMENTUM):
    """Takes SGD steps with Nesterov's momentum by its formula; returns losses and |gradient|^2."""
    velocities = [np.zeros(v.shape) for v in model.trainable_variables]
    losses = []
    for x, y, scales in batches:
        loss, gradients = gradients_by_hand(model, x, y, scales)
        losses.append(loss)
        for i, (variable, gradient) in enumerate(
            zip(model.trainable_variables, gradients, strict=True)
        ):
            velocities[i] = momentum * velocities[i] - rate * gradient
            variable.assign_add(momentum * velocities[i] - rate * gradient)
    return losses, sum(np.square(g).sum() for g in gradients)


def mirrored_strategy(devices):
    """Returns a strategy without collectives, of which a process can use only one strategy."""
    to_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=to_one)


def split(x, y, scales):
    return zip(*(np.split(t, len(t) // BATCH) for t in (x, y, scales)), strict=True)


def assert_same_weights(a, b, rtol=0.0, atol=0.0):
    for one, other in zip(a.variables, b.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol, atol, err_msg=one.path)


KINDS = {
    "plain": {},
    "regularized": {"regularizer": keras.regularizers.L2(0.1)},
    "dropout": {"rate": 0.5},
    "batch normalization": {"norm": True},
    "all": {"regularizer": keras.regularizers.L1(0.1), "rate": 0.5, "norm": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_three_steps_are_those_taken_by_hand(kind):
    model, other, batch = network(**KINDS[kind]), network(**KINDS[kind]), drawn(3)
    losses, squares, gradient = Steps(model, examples=EXAMPLES, batch_size=BATCH)(*batch)
    expected, expected_gradient = step_by_hand(other, split(*batch))
    assert squares is None
    # Losses and the gradient's norm are returned in float32; steps are computed in float64.
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert gradient == pytest.approx(expected_gradient, rel=1e-6)
    assert_same_weights(model, other, rtol=1e-12, atol=1e-14)
    assert int(model.optimizer.iterations) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_one_call_are_steps_in_several(kind):
    together, apart, batch = network(**KINDS[kind]), network(**KINDS[kind]), drawn(3)
    losses, _, gradient = Steps(together, examples=EXAMPLES, batch_size=BATCH)(*batch)
    steps = Steps(apart, examples=EXAMPLES, batch_size=BATCH)
    results = [steps(*part) for part in split(*batch)]
    np.testing.assert_array_equal(losses, [result[0][0] for result in results])
    assert gradient == results[-1][2]
    assert_same_weights(together, apart)
    for a, b in zip(together.optimizer.variables, apart.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "regularized"])
def test_norms_come_from_the_same_pass_and_change_nothing(kind):
    model, other, batch = network(**KINDS[kind]), network(**KINDS[kind]), drawn(2)
    norms, steps = (
        per_example_gradient_norms(other, LOSS, regularization=False),
        Steps(other, examples=EXAMPLES, batch_size=BATCH),
    )
    expected_squares, results = [], []
    for x, y, scales in split(*batch):
        expected_squares.extend(norms(x, y)[1].numpy())
        results.append(steps(x, y, scales))
    losses, squares, gradient = Steps(model, examples=EXAMPLES, batch_size=BATCH, norms=True)(
        *batch
    )
    assert squares.dtype == np.float32
    np.testing.assert_allclose(squares, expected_squares, rtol=1e-6)
    np.testing.assert_allclose(losses, [result[0][0] for result in results], rtol=1e-6)
    assert gradient == pytest.approx(results[-1][2], rel=1e-6)
    assert_same_weights(model, other, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_norms_are_those_of_the_units_that_dropout_leaves():
    model, other, (x, y, scales) = network(rate=0.5), network(rate=0.5), drawn()
    _, squares, _ = Steps(model, examples=EXAMPLES, batch_size=BATCH, norms=True)(x, y, scales)
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(
            y, other(x, training=True), from_logits=True
        )
    jacobians = tape.jacobian(losses, [v.value for v in other.trainable_variables])
    expected = sum(np.square(j).reshape(BATCH, -1).sum(axis=1) for j in jacobians)
    np.testing.assert_allclose(squares, expected, rtol=1e-6)
    assert int(model.layers[1].seed_generator.state[1]) == 1  # the next mask is different


def test_batch_normalization_has_no_norms_in_training():
    with pytest.raises(ValueError, match="batch_normalization"):
        Steps(network(norm=True), examples=EXAMPLES, batch_size=BATCH, norms=True)(*drawn())


class Centered(keras.layers.Layer):
    """Subtracts the batch's mean, so that there are no gradients of single examples."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Positions(keras.layers.Layer):
    """Adds a row of a table to each of as many steps as a batch has examples."""

    def __init__(self):
        super().__init__(dtype="float64")
        self.table = keras.layers.Embedding(BATCH, 5, dtype="float64")

    def call(self, x):
        return x + self.table(keras.ops.arange(BATCH))


def test_the_first_step_checks_the_norms():
    layers = [keras.Input((5,)), Centered(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("sgd", LOSS)
    before = model.get_weights()
    with pytest.raises(ValueError, match="depends on other examples of its batch"):
        Steps(model, examples=EXAMPLES, batch_size=BATCH, norms=True)(*drawn())
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_norms_of_what_is_no_batch():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((BATCH, 5), dtype="float64")
    x = keras.layers.Activation("tanh", dtype="float64")(Positions()(inputs))
    x = keras.layers.Flatten(dtype="float64")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float64")(x))
    model.compile("sgd", LOSS)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(BATCH, BATCH, 5)), rng.integers(0, 3, BATCH)
    expected = []
    for i in range(BATCH):
        _, found = gradients_by_hand(model, x[i : i + 1], y[i : i + 1], np.ones(1, "f"))
        expected.append(sum(np.square(g).sum() for g in found))
    steps = Steps(model, examples=Examples(x, y), batch_size=BATCH, norms=True)
    _, squares, _ = steps(x, y, np.ones(BATCH, "f"))
    np.testing.assert_allclose(squares, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(dtype, norms):
    sgd = keras.optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)
    if dtype == "mixed_float16":
        sgd = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=1024.0)
    regularizer = keras.regularizers.L2(0.1)
    model = network(dtype, sgd, regularizer)
    other, batch = network("float32", regularizer=regularizer), drawn(2)
    losses, squares, gradient = Steps(model, examples=EXAMPLES, batch_size=BATCH, norms=norms)(
        *batch
    )
    expected, expected_gradient = step_by_hand(other, split(*batch))
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(losses, expected, rtol=2e-2)
    assert gradient == pytest.approx(expected_gradient, rel=6e-2)
    for a, b in zip(model.trainable_variables, other.trainable_variables, strict=True):
        assert a.dtype == "float32"
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-2)
    if norms:
        exact = Steps(
            network("float32", regularizer=regularizer),
            examples=EXAMPLES,
            batch_size=BATCH,
            norms=True,
        )(*batch)[1]
        np.testing.assert_allclose(squares, exact, rtol=6e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "regularized"])
def test_two_devices_take_the_step_of_one(two_devices, kind):
    with mirrored_strategy(two_devices).scope():
        mirrored = network(**KINDS[kind])
    alone, batch = network(**KINDS[kind]), drawn(3)
    losses, squares, gradient = Steps(mirrored, examples=EXAMPLES, batch_size=BATCH)(*batch)
    expected = Steps(alone, examples=EXAMPLES, batch_size=BATCH)(*batch)
    np.testing.assert_allclose(losses, expected[0], rtol=1e-6)
    assert (squares, np.isnan(gradient)) == (None, True)
    assert_same_weights(mirrored, alone, rtol=1e-12, atol=1e-14)


def test_losses_of_sequences_are_averaged_over_their_elements():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((7, 5)), keras.layers.Dense(3, dtype="float64")])
    model.compile(keras.optimizers.SGD(1.0), LOSS)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(BATCH, 7, 5)), rng.integers(0, 3, (BATCH, 7))
    loss, gradients = gradients_by_hand(model, x, y, np.ones((BATCH, 1)))
    expected = [v.numpy() - g for v, g in zip(model.trainable_variables, gradients, strict=True)]
    steps = Steps(model, examples=Examples(x, y), batch_size=BATCH)
    losses, _, _ = steps(x, y, np.ones(BATCH, np.float32))
    assert losses[0] == pytest.approx(loss, rel=1e-6)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-12)


def test_a_model_that_is_not_built_is_built_for_the_examples():
    x, y, scales = drawn()
    model = keras.Sequential([keras.layers.Dense(3, dtype="float64")])
    model.compile(keras.optimizers.SGD(RATE), LOSS)
    steps = Steps(model, examples=Examples(x, y), batch_size=BATCH)
    loss, _ = gradients_by_hand(model, x, y, scales)
    losses, _, _ = steps(x, y, scales)
    np.testing.assert_allclose(losses, [loss], rtol=1e-6)


def test_bad_arguments(two_devices):
    model = network()
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        Steps(model, examples=EXAMPLES, batch_size=0)
    uncompiled = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`model` must be compiled with an optimizer and a loss"):
        Steps(uncompiled, examples=EXAMPLES, batch_size=BATCH)
    uncompiled.compile("sgd")
    with pytest.raises(ValueError, match="`model` must be compiled with an optimizer and a loss"):
        Steps(uncompiled, examples=EXAMPLES, batch_size=BATCH)
    with mirrored_strategy(two_devices).scope():
        mirrored = network()
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of 2 devices\. Rec.* 5"):
        Steps(mirrored, examples=EXAMPLES, batch_size=5)
    with pytest.raises(ValueError, match="The strategy must be of one device"):
        Steps(mirrored, examples=EXAMPLES, batch_size=BATCH, norms=True)


LOGITS = np.array([[2.0, 1, 0], [0, 2, 1], [0, 1, 2], [3, 1, 2]])
SEQUENCES = np.stack([LOGITS, LOGITS[::-1]])  # their classes: 0 1 2 0 and 0 2 1 0


@pytest.mark.parametrize(
    ("y", "outputs", "expected"),
    [
        (np.array([0, 1, 0, 2]), LOGITS, [0, 0, 1, 1]),
        (np.array([[0], [1], [0], [2]], np.uint8), LOGITS, [0, 0, 1, 1]),
        (np.array([0.0, 1, 0, 2], np.float32), LOGITS, [0, 0, 1, 1]),
        (np.eye(3)[[0, 1, 0, 2]], LOGITS, [0, 0, 1, 1]),
        (np.array([0, 1, 0, 1]), np.array([[-2.0], [0.1], [0.1], [-0.1]]), [0, 0, 1, 1]),
        (np.array([[0], [1], [0], [1]]), np.array([[-2.0], [0.1], [0.1], [-0.1]]), [0, 0, 1, 1]),
        (np.array([[0, 1, 2, 0], [1, 1, 1, 0]]), SEQUENCES, [0, 0.5]),
        (np.array([[0, 1, 2, 0], [1, 1, 1, 0]])[..., None], SEQUENCES, [0, 0.5]),
        (np.eye(3)[[[0, 1, 2, 0], [1, 1, 1, 0]]], SEQUENCES, [0, 0.5]),
        (np.array([[0, 1], [1, 1]]), np.array([[[-1.0], [1]], [[1], [-1]]]), [0, 0.5]),
        (np.array([0, 1, 0, 2]), [LOGITS, -LOGITS], [0, 0, 1, 1]),
        (np.array([0, -1, 0, 255]), LOGITS, [0, np.nan, 1, np.nan]),
        (np.array([[0, 1, -1, -1], [1, 1, -1, 0]]), SEQUENCES, [0, 2 / 3]),
    ],
    ids=[
        *("classes", "column", "floats", "one-hot", "binary", "binary column"),
        *(
            "sequences",
            "sequences' column",
            "one-hot sequences",
            "binary sequences",
            "first of two",
            "ignored classes",
            "ignored steps",
        ),
    ],
)
def test_classification_errors(y, outputs, expected):
    outputs = keras.tree.map_structure(tf.constant, outputs)
    wrong = classification_errors(y, outputs)
    assert wrong.dtype == tf.float32
    np.testing.assert_allclose(wrong, expected, rtol=1e-6)
    graph = tf.function(classification_errors, reduce_retracing=True)
    np.testing.assert_allclose(graph(tf.constant(y), outputs), expected, rtol=1e-6)


def test_errors_of_probabilities_and_of_what_has_no_classes():
    outputs, y = tf.constant([[0.2], [0.4], [0.9]]), np.array([0, 1, 1])
    np.testing.assert_array_equal(classification_errors(y, outputs, threshold=0.5), [0, 1, 0])
    assert np.isnan(classification_errors(np.array([0.5, 1, 1]), outputs)).all()
    both = classification_errors({"a": y, "b": 1 - y}, {"a": outputs, "b": outputs}, threshold=0.5)
    np.testing.assert_array_equal(both, [0, 1, 0])
