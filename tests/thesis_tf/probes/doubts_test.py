"""What reports of probes say against themselves."""

import dataclasses
import math

import numpy as np
import pytest

from thesis_tf.probes import doubts
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.report import Probe, ProbeReport
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap

NONE = np.zeros(0)


def report(own, *, error=0.1, classes=10, suboptimality=0.0, converged=True, output_tap=""):
    """Returns the report of one probe; `own` are metrics of the model's output by split."""
    solution = Solution(
        np.zeros((0, classes)), np.zeros(classes), NONE, NONE, 1.0, 0.5, suboptimality, converged, 7
    )
    found = {split: Metrics.of(1000, error, 1.0) for split in ("train", "validation")}
    probe = Probe(
        Tap("out", (None, classes), "float32", "Dense"), "class", classes, solution, found
    )
    return ProbeReport(
        (probe,), {"class": {"output": own} if own else {}}, {"class": 0.9}, (), Reduction(),
        output_tap=output_tap,
    )  # fmt: skip


MODELS = {  # {split: nats}, classes, whether something is said
    "good": ({"train": 0.1, "validation": 0.2}, 10, False),
    "a uniform guess": ({"train": math.log(10), "validation": math.log(10)}, 10, False),
    "pixels of another range": ({"train": 48.99, "validation": 51.0}, 10, True),
    "two classes": ({"train": 1.5, "validation": 1.5}, 2, True),
    "two classes, near a guess": ({"train": 1.3, "validation": 1.3}, 2, False),
    # It has seen the training examples, and is too sure of itself on others.
    "overfitted": ({"train": 0.01, "validation": 9.0}, 10, False),
    "one split": ({"test": 9.0}, 10, True),
    "infinite": ({"train": math.inf}, 10, True),
    "no cross-entropy": ({"train": math.nan, "validation": math.nan}, 10, False),
    "no model": ({}, 10, False),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_worse_than_a_guess(name):
    nats, classes, expected = MODELS[name]
    own = {split: Metrics.of(1000, 0.2, value) for split, value in nats.items()}
    found = report(own, classes=classes)
    said = doubts.of_models(found)
    assert bool(said) == expected
    assert found.warnings() == said
    if expected:
        assert f"is {min(nats.values()):.3g} nats" in said[0]
        assert f"a uniform guess ({math.log(classes):.3g})" in said[0]
        assert "inputs scaled as in its training" in said[0]


LIVE = {  # error of the probe at the output, of the model, the tap, whether something is said
    "much worse": (0.4, 0.1, "out", True),
    # The standard errors are .0095 and .0095.
    "within two standard errors": (0.12, 0.1, "out", False),
    # Chance is .9, and a twentieth of the way there .041.
    "a small part of the way to chance": (0.1, 0.075, "out", False),
    "better": (0.1, 0.4, "out", False),
    "a model without errors": (0.06, 0.0, "out", True),
    "not the output": (0.4, 0.1, "", False),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_probes_that_are_worse_than_the_model(name):
    error, own, tap, expected = LIVE[name]
    metrics = {split: Metrics.of(1000, own, 0.3) for split in ("train", "validation")}
    live = {"suboptimality": math.inf, "converged": False}
    found = report(metrics, error=error, output_tap=tap, **live)
    assert bool(found.warnings()) == expected
    assert doubts.of_fits(found) == []
    if expected:
        assert found.warnings() == doubts.of_live_probes(found)
        assert "After 7 steps the live probe at out" in found.warnings()[0]
    assert doubts.of_live_probes(dataclasses.replace(found, model_error={"class": {}})) == []


def test_fits_that_have_not_converged():
    assert "1 of 1 probes have not converged" in doubts.of_fits(
        report({}, suboptimality=0.1, converged=False)
    )[0]  # fmt: skip
    assert doubts.of_fits(report({}, suboptimality=0.1)) == []
