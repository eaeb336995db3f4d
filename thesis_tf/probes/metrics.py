"""What is said of a classifier on one split: error, top-5 error, cross-entropy."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Measures:
    """How a classifier does on one set of examples.

    Attributes:
        examples: how many.
        error: the fraction whose most likely class is wrong.
        standard_error: of `error`, from the binomial distribution.
        top5_error: the fraction whose class is not among the five most likely; None below 6
            classes.
        cross_entropy: the mean, in nats.
    """

    examples: int
    error: float
    standard_error: float
    top5_error: float | None
    cross_entropy: float


def measure(blocks):
    """Measures a classifier from its logits.

    Args:
        blocks: an iterable of (logits (n, K), labels (n,)).

    Returns:
        `Measures` over all blocks; ties between logits count as wrong.
    """
    examples = wrong = wrong5 = 0
    nats, classes = 0.0, 0
    for logits, labels in blocks:
        logits = np.asarray(logits, np.float64)
        own = np.take_along_axis(logits, labels[:, np.newaxis], 1)
        # The rank of the right class if all that tie with it come first: a constant is no answer,
        # and nor is NaN.
        rank = (~(logits < own)).sum(1)
        top = logits.max(1, keepdims=True)
        nats += float((np.log(np.exp(logits - top).sum(1)) + (top - own)[:, 0]).sum())
        wrong += int((rank > 1).sum())
        wrong5 += int((rank > 5).sum())
        examples += len(labels)
        classes = logits.shape[1]
    error = wrong / examples
    return Measures(
        examples=examples,
        error=error,
        standard_error=math.sqrt(error * (1 - error) / examples),
        top5_error=wrong5 / examples if classes > 5 else None,
        cross_entropy=nats / examples,
    )
