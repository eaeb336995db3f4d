"""Measures of sample quality from a classifier that was trained on real examples.

The thesis shows samples (figures 5.4 and 5.6). To express their quality as numbers, this module
measures how confident a classifier is about each sample, and how often a chain changes its class.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import ArrayLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SampleQuality(TabularResult):
    """The quality of samples according to a classifier.

    Attributes:
        confidence: the mean over samples of the largest class probability.
        entropy: the mean over samples of the entropy of the class probabilities, in nats.
        unsure: the fraction of samples of which the classifier is unsure: their largest class
            probability is below `threshold`. It says nothing of samples that look like no data,
            but of which the classifier is sure, as it may be of noise.
        threshold: the smallest class probability at which the classifier counts as sure.
        class_fractions: (classes,), the fraction of samples for which each class is most probable.
        class_entropy: the entropy of `class_fractions`, in nats; the log of the number of classes
            if all fractions are equal.
        changes_per_100_steps: the number of changes of the most probable class per 100 steps of a
            chain; None if the samples don't come from chains.
        standard_errors: {name: standard error} of the first three attributes. It is computed over
            chains, or over samples if they don't come from chains; None for a single chain.
    """

    confidence: float
    entropy: float
    unsure: float
    threshold: float
    class_fractions: np.ndarray
    class_entropy: float
    changes_per_100_steps: float | None
    standard_errors: dict[str, float] | None

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        errors = self.standard_errors or {}
        rows = [
            ("confidence", self.confidence, errors.get("confidence")),
            ("entropy", self.entropy, errors.get("entropy")),
            (f"unsure, below {self.threshold:g}", self.unsure, errors.get("unsure")),
            ("entropy of the classes", self.class_entropy, None),
            ("changes per 100 steps", self.changes_per_100_steps, None),
        ]
        return ("measure", "value", "standard error"), rows

    def summary(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict."""
        found = dataclasses.asdict(self)
        return {**found, "class_fractions": self.class_fractions.tolist()}


def sample_quality(
    probabilities: ArrayLike,
    *,
    threshold: float | None = None,
    num_steps_between_results: int = 0,
) -> SampleQuality:
    """Returns the `SampleQuality` of samples from a classifier's class probabilities.

    Args:
        probabilities: (n, classes), or (steps, chains, classes) for chains: outputs of a softmax.
        threshold: the classifier is unsure of a sample whose largest class probability is below
            this; above 1 / classes, below which no largest probability can be. Default: 0.5, and
            0.75 for two classes.
        num_steps_between_results: the value with which the chains were sampled.

    Raises:
        ValueError: the probabilities don't sum to 1, or have another shape; or no largest
            probability can be below the threshold.
    """
    p = checks.real_numbers("`probabilities`", probabilities)
    if p.ndim not in (2, 3) or p.size == 0 or p.shape[-1] < 2:
        expected = "of shape (n, classes) or (steps, chains, classes)"
        raise checks.invalid("`probabilities`", expected, f"shape {p.shape}")
    # A softmax in float32 sums to 1 only up to rounding.
    given = np.asarray(probabilities).dtype
    rounding = np.finfo(given).eps if given.kind == "f" else 0.0
    if not (np.abs(p.sum(axis=-1) - 1) < max(1e-4, p.shape[-1] * rounding)).all() or p.min() < 0:
        advice = "Apply a softmax to logits."
        raise checks.invalid("`probabilities`", "at least 0 and of sum 1", "other values", advice)
    classes = p.shape[-1]
    if threshold is None:
        threshold = 0.5 if classes > 2 else 0.75
    threshold = checks.probability("`threshold`", threshold)
    if threshold <= 1 / classes:
        expected = f"above 1 / {classes}, for {classes} classes"
        raise checks.invalid("`threshold`", expected, threshold)
    between = checks.finite_number("`num_steps_between_results`", num_steps_between_results)
    if between < 0 or between != int(between):
        expected = "an integer of at least 0"
        raise checks.invalid("`num_steps_between_results`", expected, num_steps_between_results)
    stride = int(between) + 1
    largest, chosen = p.max(axis=-1), p.argmax(axis=-1)
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=-1)
    values = {"confidence": largest, "entropy": entropy, "unsure": largest < threshold}
    groups = {name: v.mean(axis=0) if v.ndim == 2 else v for name, v in values.items()}
    errors = None
    if len(groups["confidence"]) > 1:
        errors = {name: float(v.std(ddof=1) / len(v) ** 0.5) for name, v in groups.items()}
    fractions = np.bincount(chosen.ravel(), minlength=classes) / chosen.size
    changes = None
    if chosen.ndim == 2 and len(chosen) > 1:
        changes = float((chosen[1:] != chosen[:-1]).mean()) * 100 / stride
    return SampleQuality(
        **{name: float(v.mean()) for name, v in values.items()},
        threshold=threshold,
        class_fractions=fractions,
        class_entropy=float(-(fractions * np.log(np.maximum(fractions, 1e-30))).sum())
        + 0.0,  # no -0
        changes_per_100_steps=changes,
        standard_errors=errors,
    )
