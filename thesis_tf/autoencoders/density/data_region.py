"""The region of the training data: outside of it r was never trained (thesis, 3.4.2)."""

import warnings

import numpy as np
import scipy.spatial

from thesis_tf._core.types import Array, ArrayLike


class OutsideDataWarning(UserWarning):
    """r was evaluated at points that are far from all training data."""


class DataRegion:
    """The points at which Gaussian noise of sigma has trained r.

    The norm of noise in d dimensions is sigma sqrt(d) with a standard deviation of about
    sigma / sqrt(2); the region extends three sigma farther than this from the nearest example.

    Args:
        data: (n, ...) training examples.
        sigma: the standard deviation of the noise.
    """

    def __init__(self, data: ArrayLike, sigma: float) -> None:
        data = np.asarray(data)
        self.shape = data.shape[1:]
        data = data.reshape(len(data), -1)
        self._tree = scipy.spatial.cKDTree(data)
        self.sigma = sigma
        self.radius = sigma * (np.sqrt(data.shape[1]) + 3)

    def distances(self, x: ArrayLike) -> Array:
        """Returns the distance of each point (n, ...) to the nearest example, (n,)."""
        x = np.asarray(x, np.float64)
        flat = x.reshape(len(x), int(np.prod(self.shape)))
        return np.asarray(self._tree.query(flat, workers=-1)[0])

    def contains(self, x: ArrayLike) -> Array:
        """Returns whether each point (n, ...) lies in the region, (n,) of bool."""
        return np.asarray(self.distances(x) <= self.radius)

    def warn(self, x: ArrayLike, subject: str, stacklevel: int) -> None:
        """Warns with the largest distance if points of `x` lie outside.

        Args:
            x: (n, ...) points.
            subject: the subject of the message, which leaves the region.
            stacklevel: as for `warnings.warn`.
        """
        distances = self.distances(x)
        outside = distances > self.radius
        if outside.any():
            warnings.warn(
                f"{subject} leaves the region of the training data: {outside.sum()} of"
                f" {len(outside)} points are more than {self.radius:.3g} away from all data, the"
                f" farthest {distances.max():.3g} ({distances.max() / self.sigma:.3g} sigma). r"
                " was never trained there; use `waypoints` along the data.",
                OutsideDataWarning,
                stacklevel=stacklevel + 1,
            )
