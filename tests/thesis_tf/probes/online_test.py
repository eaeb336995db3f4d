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
    np.testing.assert_array_equal(sums[0], sums[2])


def test_the_number_of_classes_must_be_known():
    images = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.ReLU(name="relu")])
    with pytest.raises(ValueError, match="`num_classes` must be at least 2") as error:
        LiveProbes(images, "relu", Reduction())
    assert error.value.argument == "num_classes"
