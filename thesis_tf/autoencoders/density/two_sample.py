"""A nearest-neighbor test of whether two samples have the same distribution."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.spatial

from thesis_tf._core import checks
from thesis_tf._core.types import ArrayLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell


@dataclasses.dataclass(frozen=True, repr=False)
class TwoSampleTest(TabularResult):
    """The accuracy of a nearest-neighbor classifier that distinguishes two samples.

    Attributes:
        accuracy: the leave-one-out accuracy of the classifier; 0.5 by chance.
        standard_error: the standard error of the accuracy by chance, sqrt(0.25 / points). It is a
            lower bound, since votes are not independent.
        num_neighbors: the number of neighbors that vote on each point.
    """

    accuracy: float
    standard_error: float
    num_neighbors: int

    def warnings(self) -> list[str]:
        """Returns a sentence if the samples have different distributions; none otherwise.

        They have if the accuracy differs from chance by more than five standard errors and .05.
        """
        difference = self.accuracy - 0.5
        if abs(difference) <= max(5 * self.standard_error, 0.05):
            return []
        if difference < 0:
            return [
                f"Points lie closer to the other sample than to their own ({self.accuracy:.3g} of"
                " them are told correctly): one sample may be a copy of the other."
            ]
        return [
            f"The samples have different distributions: nearest neighbors tell {self.accuracy:.3g}"
            f" of the points, by chance .5 +- {self.standard_error:.2g}."
        ]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings = ("accuracy", "by chance", "standard error", "neighbors")
        return headings, [(self.accuracy, 0.5, self.standard_error, self.num_neighbors)]

    def summary(self) -> dict[str, Any]:
        """Returns the fields as a plain dict."""
        return dataclasses.asdict(self)


def nearest_neighbor_test(
    first: ArrayLike, second: ArrayLike, *, num_neighbors: int = 5
) -> TwoSampleTest:
    """Classifies each point as one of the first or second sample, by its nearest neighbors.

    Args:
        first, second: (n, ...) arrays; the samples are cut to the size of the smaller one.
        num_neighbors: an odd number.

    Returns:
        `TwoSampleTest`.

    Raises:
        TypeError: the samples aren't real numbers.
        ValueError: the samples differ in shape, aren't finite, are integers beyond 2^53 or have too
            few points, or the number of neighbors is even.
    """
    num_neighbors = checks.positive_integer("`num_neighbors`", num_neighbors)
    if num_neighbors % 2 == 0:
        raise checks.invalid("`num_neighbors`", "odd, so that there are no ties", num_neighbors)
    samples = (
        checks.real_numbers("`first`", first),
        checks.real_numbers("`second`", second),
    )
    if samples[0].ndim < 1 or samples[0].shape[1:] != samples[1].shape[1:]:
        received = " and ".join(str(s.shape) for s in samples)
        raise checks.invalid("`first` and `second`", "points of one shape", f"shapes {received}")
    if not all(np.isfinite(sample).all() for sample in samples):
        raise checks.invalid("`first` and `second`", "finite", "NaN or infinity")
    count = min(map(len, samples))
    if count <= num_neighbors:
        raise checks.invalid("The samples", f"of more than {num_neighbors} points", count)
    both = np.concatenate([np.reshape(sample[:count], (count, -1)) for sample in samples])
    label = np.repeat([False, True], count)
    # Points of equal distance come in any order; the point itself is among those at distance 0.
    _, found = scipy.spatial.cKDTree(both).query(both, num_neighbors + 1, workers=-1)
    itself = found == np.arange(2 * count)[:, np.newaxis]
    itself[~itself.any(axis=1), -1] = True
    votes = label[found[~itself].reshape(2 * count, num_neighbors)].mean(axis=1) > 0.5
    return TwoSampleTest(
        float((votes == label).mean()), float(np.sqrt(0.25 / (2 * count))), num_neighbors
    )
