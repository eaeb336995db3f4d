"""Whether two samples could be of one distribution: a test by nearest neighbours."""

import dataclasses

import numpy as np
import scipy.spatial

from thesis_tf._core import checks


@dataclasses.dataclass(frozen=True)
class TwoSampleTest:
    """How well neighbours tell two samples apart.

    Attributes:
        accuracy: of the k-nearest-neighbour classifier, leaving out the point itself; .5 by chance.
        standard_error: of the accuracy under chance, sqrt(.25 / points); neighbours share votes,
            so it is a lower bound.
        neighbours: k.
    """

    accuracy: float
    standard_error: float
    neighbours: int


def nearest_neighbour_test(first, second, neighbours=5):
    """Classifies each point as of one or the other sample by its nearest neighbours.

    Args:
        first, second: (n, ...) arrays of as many points each; more of one are left out.
        neighbours: an odd number.

    Returns:
        `TwoSampleTest`.
    """
    neighbours = checks.positive_integer("`neighbours`", neighbours)
    if neighbours % 2 == 0:
        raise checks.invalid("`neighbours`", "odd, so that there are no ties", neighbours)
    count = min(len(first), len(second))
    if count <= neighbours:
        raise checks.invalid("The samples", f"of more than {neighbours} points", count)
    both = np.concatenate([np.reshape(s[:count], (count, -1)) for s in (first, second)])
    label = np.repeat([False, True], count)
    # Among themselves points of equal distance come in any order; the point itself is one of them.
    _, found = scipy.spatial.cKDTree(both).query(both, neighbours + 1, workers=-1)
    own = found == np.arange(2 * count)[:, np.newaxis]
    own[~own.any(axis=1), -1] = True
    votes = label[found[~own].reshape(2 * count, neighbours)].mean(axis=1) > 0.5
    return TwoSampleTest(
        float((votes == label).mean()), float(np.sqrt(0.25 / (2 * count))), neighbours
    )
