"""Where training data lay: outside, nothing taught r what to put out (thesis, 3.4.2)."""

import warnings

import numpy as np
import scipy.spatial


class OutsideDataWarning(UserWarning):
    """r was asked for points that lie far from all training data."""


class DataRegion:
    """The points that training with Gaussian noise of sigma has shown to r.

    Noise of d values has the norm sigma sqrt(d), give or take sigma / sqrt(2); the region ends
    three sigma beyond that, counted from the nearest example.

    Args:
        data: (n, ...) training examples.
        sigma: the standard deviation of the noise.
    """

    def __init__(self, data, sigma):
        self.shape = tuple(np.shape(data)[1:])
        data = np.asarray(data).reshape(len(data), -1)
        self._tree = scipy.spatial.cKDTree(data)
        self.sigma = sigma
        self.radius = sigma * (np.sqrt(data.shape[1]) + 3)

    def distances(self, x):
        """Returns the distance of each point (n, ...) to the nearest example, (n,)."""
        x = np.asarray(x, np.float64).reshape(len(x), int(np.prod(self.shape)))
        return self._tree.query(x, workers=-1)[0]

    def contains(self, x):
        """Returns whether each point (n, ...) lies in the region, (n,) of bool."""
        return self.distances(x) <= self.radius

    def warn(self, x, what, stacklevel):
        """Warns with the largest distance if points of `x` lie outside."""
        distances = self.distances(x)
        outside = distances > self.radius
        if outside.any():
            warnings.warn(
                f"{what} leaves the region where training data lay: {outside.sum()} of"
                f" {len(outside)} points are more than {self.radius:.3g} away from all of them, the"
                f" farthest {distances.max():.3g} ({distances.max() / self.sigma:.3g} sigma). What"
                " r puts out there was never trained; go along the data with `waypoints`.",
                OutsideDataWarning,
                stacklevel=stacklevel + 1,
            )
