"""Metrics of classifiers, compared with counts."""

import math

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


@pytest.mark.parametrize(("classes", "top5"), [(2, None), (5, None), (6, 1.0), (100, 1.0)])
def test_a_constant_is_always_wrong(classes, top5):
    got = measure([(np.zeros((8, classes)), np.arange(8) % classes)])
    assert (got.error, got.top5_error, got.standard_error) == (1.0, top5, 0.0)
    assert got.cross_entropy == pytest.approx(math.log(classes), rel=1e-14)


def test_a_tie_is_wrong_wherever_the_right_class_stands():
    logits = np.array([[1.0, 1.0, 0.0]] * 3)
    assert [measure([(logits[:1], np.array([y]))]).error for y in range(3)] == [1, 1, 1]
    assert measure([(np.array([[1.0, 1.0, 2.0]]), np.array([2]))]).error == 0


@pytest.mark.parametrize(
    ("above", "level", "wrong"),
    [(4, 0, 0), (5, 0, 1), (0, 4, 0), (0, 5, 1), (2, 2, 0), (3, 2, 1)],
)
def test_top_5_counts_classes_above_and_level(above, level, wrong):
    logits = np.zeros((1, 20))
    logits[0, 7] = 1.0
    logits[0, 8 : 8 + above] = 2.0
    logits[0, 13 : 13 + level] = 1.0
    assert measure([(logits, np.array([7]))]).top5_error == wrong


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
