"""How good samples look to a classifier of real examples, and how well chains go between classes.

The thesis shows samples; a number for them is how sure a classifier that was trained on real
examples is of each (figures 5.4 and 5.6), and how often a chain changes class.
"""

import dataclasses
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import ArrayLike


@dataclasses.dataclass(frozen=True, eq=False)
class SampleQuality:
    """What a classifier says of samples.

    Attributes:
        confidence: the mean largest probability of a class.
        entropy: the mean entropy of the classes of a sample, in nats.
        spurious: the fraction of samples whose largest probability is below `threshold`.
        threshold: of the probability of a sample that counts as real.
        class_fractions: (classes,), how often each class is the most probable.
        class_entropy: of those fractions, in nats; log of the number of classes if all are alike.
        changes_per_100_steps: of a chain's class, None for samples that are no chains.
        standard_errors: {name: standard error} of the first three, over chains, or over samples
            that are none; None from one chain.
    """

    confidence: float
    entropy: float
    spurious: float
    threshold: float
    class_fractions: np.ndarray
    class_entropy: float
    changes_per_100_steps: float | None
    standard_errors: dict | None

    def summary(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold."""
        found = dataclasses.asdict(self)
        return {**found, "class_fractions": self.class_fractions.tolist()}


def sample_quality(
    probabilities: ArrayLike, *, threshold: float = 0.5, num_steps_between_results: int = 0
) -> SampleQuality:
    """Returns the `SampleQuality` of samples whose classes a classifier has named.

    Args:
        probabilities: (n, classes), or (steps, chains, classes) of chains: outputs of a softmax.
        threshold: of the largest probability, below which a sample is spurious.
        num_steps_between_results: as of the chains that the samples are from.

    Raises:
        ValueError: probabilities don't sum to 1, or have another shape.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim not in (2, 3) or p.size == 0 or p.shape[-1] < 2:
        expected = "of shape (n, classes) or (steps, chains, classes)"
        raise checks.invalid("`probabilities`", expected, f"shape {p.shape}")
    # A softmax in float32 sums to 1 within its rounding.
    if not (np.abs(p.sum(axis=-1) - 1) < 1e-4).all() or p.min() < 0:
        advice = "Apply a softmax to logits."
        raise checks.invalid("`probabilities`", "of sum 1", "others", advice)
    threshold = checks.probability("`threshold`", threshold)
    if num_steps_between_results < 0:
        raise checks.invalid("`num_steps_between_results`", "at least 0", num_steps_between_results)
    stride = num_steps_between_results + 1
    largest, classes = p.max(axis=-1), p.argmax(axis=-1)
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=-1)
    values = {"confidence": largest, "entropy": entropy, "spurious": largest < threshold}
    groups = {name: v.mean(axis=0) if v.ndim == 2 else v for name, v in values.items()}
    errors = None
    if len(groups["confidence"]) > 1:
        errors = {name: float(v.std(ddof=1) / len(v) ** 0.5) for name, v in groups.items()}
    fractions = np.bincount(classes.ravel(), minlength=p.shape[-1]) / classes.size
    changes = None
    if classes.ndim == 2 and len(classes) > 1:
        changes = float((classes[1:] != classes[:-1]).mean()) * 100 / stride
    return SampleQuality(
        **{name: float(v.mean()) for name, v in values.items()},
        threshold=threshold,
        class_fractions=fractions,
        class_entropy=float(-(fractions * np.log(np.maximum(fractions, 1e-30))).sum()),
        changes_per_100_steps=changes,
        standard_errors=errors,
    )
