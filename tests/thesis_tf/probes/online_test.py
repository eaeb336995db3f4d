"""Live probes without a training of the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.probes.online import LiveProbes
from thesis_tf.probes.reductions import Reduction

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 4)).astype(np.float32), RNG.integers(0, 3, 20)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.ReLU(name="relu"), keras.layers.Dense(3, name="out")]
    return keras.Sequential(layers)


def probes(model, **options):
    return LiveProbes(model, ["input", "relu"], Reduction("flatten"), **options)


def test_metrics_are_those_of_the_reported_probes(model):
    found = probes(model)
    for _ in range(5):
        found.train(tf.constant(X), tf.constant(Y))
    for rows in (slice(12), slice(12, None)):
        found.measure(tf.constant(X[rows]), tf.constant(Y[rows]))
    assert found.steps == 5
    report = found.report({"validation": found.sums("validation")})
    features = {"input": X, "relu": np.maximum(X, 0)}
    for probe in report.probes:
        logits = features[probe.tap.name] @ probe.solution.weights + probe.solution.bias
        shifted = logits - logits.max(1, keepdims=True)
        nats = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(20), Y]).mean()
        metrics = probe.metrics["validation"]
        assert metrics.examples == 20
        assert metrics.error == pytest.approx(np.mean(logits.argmax(1) != Y))
        assert metrics.cross_entropy == pytest.approx(nats, rel=1e-4)
        error = metrics.error
        assert metrics.standard_error == pytest.approx(np.sqrt(error * (1 - error) / 20))
        assert found.errors("validation")[probe.tap.name] == pytest.approx(error)
    error = np.mean(np.asarray(model(X)).argmax(1) != Y)
    assert report.model_error["class"]["output"]["validation"].error == pytest.approx(error)


def test_clear(model):
    found = probes(model)
    found.measure(tf.constant(X), tf.constant(Y))
    found.clear("validation")
    assert not found.sums("validation").rows.any()
    assert found.sums("validation").examples == 0


def test_targets_may_be_one_hot_or_derived(model):
    sums = []
    for options, targets in (
        ({}, Y),
        ({}, np.eye(3, dtype=np.float32)[Y]),
        ({"labels": lambda y: y - 5}, Y + 5),
    ):
        found = probes(model, **options)
        found.measure(tf.constant(X), tf.constant(targets))
        sums.append(found.sums("validation").rows)
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0][:-1], sums[2][:-1])
    # That the model predicts what was made of its targets isn't known.
    assert sums[0][-1, 2] == 20
    assert not sums[2][-1].any()


def test_the_number_of_classes_must_be_known():
    images = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.ReLU(name="relu")])
    with pytest.raises(ValueError, match="`num_classes` must be at least 2") as error:
        LiveProbes(images, "relu", Reduction())
    assert error.value.argument == "num_classes"


def network(head, **options):
    """Returns a model with one head, whose logits are large enough to round probabilities to 0."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))
    heads = {
        "logits": lambda h: h,
        "softmax": keras.layers.Softmax(),
        "softmax activation": keras.layers.Activation("softmax"),
        "sigmoid": keras.layers.Activation("sigmoid"),
        "tf.nn.softmax": SoftmaxOfTensorFlow(),
        "bfloat16 softmax": keras.layers.Softmax(dtype="mixed_bfloat16"),
        "saturated softmax": lambda h: keras.layers.Softmax()(100.0 * h),
    }
    model = keras.Model(inputs, heads[head](dense(inputs)))
    if options:
        model.compile("sgd", **options)
    return model


class SoftmaxOfTensorFlow(keras.layers.Layer):
    def call(self, x):
        return tf.nn.softmax(x)


SPARSE, DENSE = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy
ONE_HOT = np.eye(3, dtype=np.float32)[Y]


def own_loss(y, outputs):
    return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)


OWN = {
    "a name, softmax": ("softmax", "sparse_categorical_crossentropy", Y),
    "a name, one-hot": ("softmax activation", "categorical_crossentropy", ONE_HOT),
    "the shortest name": ("softmax", "crossentropy", Y),
    "a loss, softmax": ("softmax activation", SPARSE(), Y),
    "a loss in a list": ("softmax", [SPARSE()], Y),
    "a function of Keras": ("softmax", keras.losses.sparse_categorical_crossentropy, Y),
    "tf.nn.softmax": ("tf.nn.softmax", SPARSE(), Y),
    "a softmax that rounds to 0": ("saturated softmax", SPARSE(), Y),
    "bfloat16": ("bfloat16 softmax", SPARSE(), Y),
    "logits": ("logits", SPARSE(from_logits=True), Y),
    "logits, one-hot": ("logits", DENSE(from_logits=True), ONE_HOT),
    "sigmoid": ("sigmoid", SPARSE(), Y),
    "a function of one's own": ("logits", own_loss, Y),
    "labels of shape (n, 1)": ("softmax", SPARSE(), Y[:, np.newaxis]),
}


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_error_and_loss_are_those_of_keras(name):
    head, loss, y = OWN[name]
    model = network(head, loss=loss, metrics=["accuracy"])
    wanted, accuracy = model.evaluate(X, y, verbose=0)
    found = LiveProbes(model, ["input"], Reduction("flatten"))
    found.measure(tf.constant(X), tf.constant(y))
    report = found.report({"validation": found.sums("validation")})
    own = report.model_error["class"]["output"]["validation"]
    assert own.examples == 20
    assert own.error == pytest.approx(1 - accuracy, abs=1e-6)
    assert own.cross_entropy == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("head", ["softmax", "tf.nn.softmax", "logits"])
def test_outputs_of_a_model_without_a_loss_are_read_by_their_values(head):
    model = network(head)
    found = LiveProbes(model, ["input"], Reduction("flatten"))
    found.measure(tf.constant(X), tf.constant(Y))
    own = found.report({"validation": found.sums("validation")}).model_error["class"]["output"]
    loss = SPARSE(from_logits=head == "logits")
    assert own["validation"].cross_entropy == pytest.approx(float(loss(Y, model(X))), rel=1e-4)


def test_without_a_cross_entropy_only_the_error_is_known():
    found = LiveProbes(network("logits", loss="mse"), ["input"], Reduction("flatten"))
    found.measure(tf.constant(X), tf.constant(ONE_HOT))
    own = found.report({"validation": found.sums("validation")}).model_error["class"]["output"]
    assert np.isnan(own["validation"].cross_entropy)
    model = network("logits", loss="mse")
    assert own["validation"].error == pytest.approx(np.mean(np.argmax(model(X), 1) != Y))


def two_heads(loss):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    a = keras.layers.Dense(3, activation="softmax", name="a")(inputs)
    b = keras.layers.Dense(3, name="b")(inputs)
    outputs = {"a": a, "b": b} if isinstance(loss, dict) else [a, b]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("kind", [dict, list])
@pytest.mark.parametrize("head", ["a", "b"])
def test_of_several_outputs_the_one_of_the_labels_is_measured(kind, head):
    losses = {"a": SPARSE(), "b": SPARSE(from_logits=True)}
    targets = {"a": tf.constant(Y), "b": tf.constant((Y + 1) % 3)}
    key = head
    if kind is list:
        losses, targets = list(losses.values()), list(targets.values())
        key = "ab".index(head)
    model = two_heads(losses)
    chosen = {} if head == "a" else {"labels": lambda y: y[key]}
    found = LiveProbes(model, ["input"], Reduction("flatten"), num_classes=3, **chosen)
    found.measure(tf.constant(X), targets)
    own = found.report({"validation": found.sums("validation")}).model_error["class"]["output"]
    output = model(X)[key]
    loss = SPARSE(from_logits=head == "b")
    wanted = float(loss(targets[key], output))
    assert own["validation"].cross_entropy == pytest.approx(wanted, rel=1e-5)
    error = np.mean(np.argmax(output, 1) != targets[key].numpy())
    assert own["validation"].error == pytest.approx(error)


SILENT = {
    "regression on as many outputs as classes": (
        lambda: network("logits", loss="mse"),
        {"num_classes": 3, "labels": lambda y: tf.cast(y[:, 0] > 0, tf.int32)},
        tf.constant(X[:, :3]),
    ),
    "other classes": (
        lambda: network("softmax", loss=SPARSE()),
        {"num_classes": 2, "labels": lambda y: y % 2},
        tf.constant(Y),
    ),
    "labels made of the targets": (
        lambda: network("softmax", loss=SPARSE()),
        {"num_classes": 3, "labels": lambda y: (y + 1) % 3},
        tf.constant(Y),
    ),
    "labels that belong to no output": (
        lambda: two_heads([SPARSE(), SPARSE(from_logits=True)]),
        {"num_classes": 3, "labels": lambda y: (y[0] + 1) % 3},
        [tf.constant(Y), tf.constant(Y)],
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_said_of_outputs_that_do_not_predict_the_labels(name):
    make, options, y = SILENT[name]
    found = LiveProbes(make(), ["input"], Reduction("flatten"), **options)
    found.train(tf.constant(X), y)
    found.measure(tf.constant(X), y)
    report = found.report({s: found.sums(s) for s in ("train", "validation")})
    assert report.model_error == {"class": {}}
    assert report.probes[0].metrics["validation"].examples == 20


def test_the_commonest_class_is_that_of_training(model):
    found = probes(model)
    train, other = np.array([2] * 15 + [0] * 5), np.array([0] * 12 + [2] * 8)
    found.train(tf.constant(X), tf.constant(train))
    found.clear("train")
    found.measure(tf.constant(X), tf.constant(other))
    assert found.report({"validation": found.sums("validation")}).chance == {"class": 0.6}


def halves(examples=2000):
    """Returns examples of two classes that a hyperplane divides, and a network that knows it."""
    x = np.random.default_rng(3).normal(size=(examples, 4)).astype(np.float32)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2, name="out")(keras.layers.ReLU(name="relu")(inputs))
    model = keras.Model(inputs, outputs)
    kernel = np.zeros((4, 2), np.float32)
    kernel[:, 1] = 1.0, -1.0, 1.0, -1.0
    model.get_layer("out").set_weights([kernel, np.zeros(2, np.float32)])
    return model, x, np.argmax(model(x), 1)


STEPS = {  # taps, steps, the tap that is the output, whether something is said
    "few steps": (["relu", "out"], 3, "out", True),
    "many steps": (["relu", "out"], 600, "out", False),
    "all taps": ("*", 3, "out", True),
    "the output's own name": (["relu", "output"], 3, "output", True),
    "no probe on the output": (["input", "relu"], 3, "", False),
}


@pytest.mark.parametrize("name", STEPS)
def test_live_probes_with_too_few_steps_are_told_by_the_models_output(name):
    taps, steps, output, expected = STEPS[name]
    model, x, y = halves()
    # The probe begins far from what it has to learn.
    optimizer = keras.optimizers.SGD(0.5)
    found = LiveProbes(model, taps, Reduction("flatten"), optimizer=optimizer)
    for weights, _ in found._variables:
        weights.assign(np.tile([[3.0, -3.0]], (weights.shape[0], 1)) * [[1.0]])
    train = tf.function(found.train)
    for _ in range(steps):
        train(tf.constant(x), tf.constant(y))
    found.clear("train")
    found.measure(tf.constant(x), tf.constant(y))
    report = found.report({"validation": found.sums("validation")})
    assert report.output_tap == output
    assert type(report).from_json(report.to_json()).output_tap == output
    said = report.warnings()
    assert bool(said) == expected, report.table()
    if expected:
        probe = report.probe(output)
        assert said[0].startswith(f"After {steps} steps the live probe at {output}, ")
        assert f"error of {probe.error:.4f} and the model itself 0.0000" in said[0]
        assert said[0] in report.table()
