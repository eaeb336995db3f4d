import json

import numpy as np
import pytest

from thesis_tf.gsn import SampleQuality, sample_quality


def test_what_a_classifier_says():
    p = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1]])
    found = sample_quality(p)
    assert found.confidence == pytest.approx(0.675)
    entropy = [0, np.log(2), 0.4 * np.log(2.5) - 0.6 * np.log(0.3)]
    entropy.append(0.8 * np.log(1.25) + 0.2 * np.log(10))
    assert found.entropy == pytest.approx(np.mean(entropy))
    assert found.unsure == 0.25
    np.testing.assert_allclose(found.class_fractions, [0.75, 0.25, 0])
    assert found.class_entropy == pytest.approx(0.75 * np.log(4 / 3) + 0.25 * np.log(4))
    assert found.changes_per_100_steps is None
    expected = np.std([1, 0.5, 0.4, 0.8], ddof=1) / 2
    assert found.standard_errors["confidence"] == pytest.approx(expected)
    assert json.loads(json.dumps(found.summary()))["unsure"] == 0.25


@pytest.mark.parametrize(("classes", "threshold"), [(2, 0.75), (3, 0.5), (10, 0.5)])
def test_a_classifier_can_be_unsure_of_any_number_of_classes(classes, threshold):
    even, sure = np.full(classes, 1 / classes), np.eye(classes)[0]
    found = sample_quality(np.stack([even, sure, sure, sure]))
    assert (found.unsure, found.threshold) == (0.25, threshold)


def test_changes_of_class_along_chains():
    one_hot = np.eye(3)
    chains = np.stack([one_hot[[0, 0, 1, 1, 2]], one_hot[[2, 2, 2, 2, 2]]], axis=1)
    found = sample_quality(chains)
    assert found.changes_per_100_steps == pytest.approx(100 * 2 / 8)
    assert sample_quality(
        chains, num_steps_between_results=4
    ).changes_per_100_steps == pytest.approx(20 * 2 / 8)
    assert found.standard_errors["confidence"] == 0
    assert sample_quality(chains[:, :1]).standard_errors is None
    assert sample_quality(chains[:1]).changes_per_100_steps is None


@pytest.mark.parametrize(
    ("p", "options", "match"),
    [
        (np.ones((3, 4)), {}, "Apply a softmax"),
        (np.ones(4) / 4, {}, r"\(n, classes\) or \(steps, chains, classes\)"),
        (np.zeros((0, 4)), {}, "`probabilities`"),
        (np.full((2, 2), np.nan), {}, "`probabilities`"),
        (np.ones((3, 1)), {}, "`probabilities`"),
        (np.ones((3, 2)) / 2, {"threshold": 0}, "`threshold`"),
        (np.ones((3, 2)) / 2, {"threshold": 0.5}, "`threshold` must be above 1 / 2"),
        (np.ones((3, 4)) / 4, {"threshold": 0.2}, "`threshold` must be above 1 / 4"),
        (np.ones((3, 2)) / 2, {"num_steps_between_results": -1}, "`num_steps_between_results`"),
    ],
)
def test_bad_input(p, options, match):
    with pytest.raises(ValueError, match=match):
        sample_quality(p, **options)


def test_a_result_in_short():
    errors = {"confidence": 0.01, "entropy": 0.02, "unsure": 0.03}
    found = SampleQuality(0.75, 0.5, 0.125, 0.5, np.array([0.5, 0.5]), 0.25, None, errors)
    assert found.table() == (
        "measure                 value  standard error\n"
        "confidence               0.75            0.01\n"
        "entropy                   0.5            0.02\n"
        "unsure, below 0.5       0.125            0.03\n"
        "entropy of the classes   0.25               -\n"
        "changes per 100 steps       -               -"
    )
    assert repr(found) == (
        "SampleQuality(confidence=0.75, entropy=0.5, unsure=0.125, threshold=0.5,"
        " class_entropy=0.25, changes_per_100_steps=-)"
    )
