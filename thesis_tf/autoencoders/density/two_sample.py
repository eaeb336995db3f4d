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
    """
    num_neighbors = checks.positive_integer("`num_neighbors`", num_neighbors)
    if num_neighbors % 2 == 0:
        raise checks.invalid("`num_neighbors`", "odd, so that there are no ties", num_neighbors)
    samples = np.asarray(first), np.asarray(second)
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
