"""Metrics of a classifier on one split: error, top-5 error, cross-entropy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from thesis_tf._core.types import Array


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of a classifier on one set of examples.

    Attributes:
        examples: the number of examples.
        error: the fraction of examples whose most likely class is wrong.
        standard_error: the standard error of `error`, from the binomial distribution.
        top5_error: the fraction of examples whose class is not among the five most likely; None
            for fewer than 6 classes.
        cross_entropy: the mean cross-entropy, in nats.
    """

    examples: int
    error: float
    standard_error: float
    top5_error: float | None
    cross_entropy: float

    @classmethod
    def of(
        cls,
        examples: int,
        error: float,
        cross_entropy: float,
        *,
        top5_error: float | None = None,
    ) -> Metrics:
        """Returns the metrics with the standard error of `error`."""
        standard_error = math.sqrt(error * (1 - error) / examples)
        return cls(examples, error, standard_error, top5_error, cross_entropy)


def measure(blocks: Iterable[tuple[Array, Array]]) -> Metrics:
    """Computes metrics of a classifier from its logits.

    Args:
        blocks: an iterable of (logits (n, K), labels (n,)).

    Returns:
        `Metrics` over all blocks. Of equal logits the first is the largest, as for `numpy.argmax`
        and the accuracy of Keras; examples with NaN count as wrong.
    """
    examples = wrong = wrong5 = 0
    nats, classes = 0.0, 0
    for logits, labels in blocks:
        logits = np.asarray(logits, np.float64)
        right = np.take_along_axis(logits, labels[:, np.newaxis], 1)
        before = np.arange(logits.shape[1]) < labels[:, np.newaxis]
        rank = ((logits > right) | ((logits == right) & before)).sum(1)
        rank[np.isnan(logits).any(1)] = logits.shape[1]
        top = logits.max(1, keepdims=True)
        nats += float((np.log(np.exp(logits - top).sum(1)) + (top - right)[:, 0]).sum())
        wrong += int((rank > 0).sum())
        wrong5 += int((rank > 4).sum())
        examples += len(labels)
        classes = logits.shape[1]
    top5_error = wrong5 / examples if classes > 5 else None
    return Metrics.of(examples, wrong / examples, nats / examples, top5_error=top5_error)
