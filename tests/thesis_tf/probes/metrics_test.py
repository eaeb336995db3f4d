"""Metrics of classifiers, compared with counts."""

import math

import keras
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from thesis_tf.probes.metrics import measure


def one_hot_logits(named, classes, height=5.0):
    return height * np.eye(classes)[named]


def test_errors_by_hand():
    logits = np.array([[2.0, 1, 0], [0, 2, 1], [0, 2, 1], [0, 1, 2]])
    got = measure([(logits, np.array([0, 1, 2, 2]))])
    assert (got.examples, got.error, got.top5_error) == (4, 0.25, None)
    assert got.standard_error == math.sqrt(0.25 * 0.75 / 4)
    lse = math.log(math.exp(2) + math.exp(1) + 1)
    assert got.cross_entropy == pytest.approx((3 * (lse - 2) + (lse - 1)) / 4, rel=1e-14)


def test_blocks_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(101, 7)), rng.integers(0, 7, 101)
    whole = measure([(logits, labels)])
    parts = measure((logits[i : i + 13], labels[i : i + 13]) for i in range(0, 101, 13))
    assert parts.cross_entropy == pytest.approx(whole.cross_entropy, rel=1e-14)
    assert (parts.examples, parts.error, parts.top5_error) == (101, whole.error, whole.top5_error)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 6, 30])
def test_agrees_with_scikit_learn(classes, dtype):
    rng = np.random.default_rng(classes)
    logits = (5 * rng.normal(size=(400, classes))).astype(dtype)
    labels = rng.integers(0, classes, 400)
    got = measure([(logits, labels)])
    p = special.softmax(logits.astype("float64"), axis=1)
    assert got.cross_entropy == pytest.approx(metrics.log_loss(labels, p, labels=range(classes)))
    assert got.error == pytest.approx(1 - metrics.accuracy_score(labels, logits.argmax(1)))
    if classes > 5:
        top5 = metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
        assert got.top5_error == pytest.approx(1 - top5)


@pytest.mark.parametrize("classes", [2, 3, 6, 100])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_of_equal_logits_the_first_is_the_largest(classes, levels):
    # Such as those of a probe whose weights are 0, or of a network that computes in 16 bits.
    rng = np.random.default_rng(classes)
    logits = rng.integers(0, levels, (500, classes)).astype("f")
    logits[rng.random(logits.shape) < 0.1] = -np.inf  # excluded
    logits[:, 0] = np.maximum(logits[:, 0], 0)
    labels = np.where(rng.random(500) < 0.5, 0, rng.integers(0, classes, 500))
    logits[np.arange(500), labels] = np.maximum(logits[np.arange(500), labels], 0)
    got = measure([(logits, labels)])
    assert got.error == (logits.argmax(1) != labels).mean()
    accuracy = keras.metrics.sparse_categorical_accuracy(labels, logits)
    assert got.error == pytest.approx(1 - float(keras.ops.mean(accuracy)), abs=1e-6)
    five = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    if classes > 5:
        assert got.top5_error == (five != labels[:, np.newaxis]).all(1).mean()
    assert np.isfinite(got.cross_entropy)


def test_a_constant_names_one_class():
    labels = np.array([0, 0, 0, 1, 1, 2])
    got = measure([(np.zeros((6, 3)), labels)])
    assert got.error == 0.5
    assert got.cross_entropy == pytest.approx(math.log(3), rel=1e-14)


def test_nan_is_wrong():
    got = measure([(np.full((3, 10), np.nan), np.arange(3))])
    assert (got.error, got.top5_error) == (1.0, 1.0)


def test_large_logits_neither_overflow_nor_lose_the_loss():
    right = measure([(one_hot_logits([3, 1], 8, 1e4), np.array([3, 1]))])
    wrong = measure([(one_hot_logits([3, 1], 8, 1e4), np.array([1, 1]))])
    assert right.cross_entropy == pytest.approx(0, abs=1e-300)
    assert wrong.cross_entropy == pytest.approx(5e3, rel=1e-14)


def test_standard_error_is_the_spread_of_errors_over_samples():
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(2000):
        labels = rng.integers(0, 2, 50)
        named = np.where(rng.random(50) < 0.3, 1 - labels, labels)
        runs.append(measure([(one_hot_logits(named, 2), labels)]))
    spread = np.std([run.error for run in runs])
    # The deviation of 2,000 draws has a relative error of 1/sqrt(4000), 1.6 %.
    assert np.mean([run.standard_error for run in runs]) == pytest.approx(spread, rel=0.06)
