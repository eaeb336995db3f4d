"""One-dimensional manifolds, whose density the thesis' auto-encoders learn (3.3 and 3.4)."""

from __future__ import annotations

import dataclasses

import numpy as np

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array

SPIRAL_SCALE = 0.04
EXTENT = 1.5  # the largest absolute coordinate of data on the 10-dimensional manifold


def spiral(count: int, *, seed: int = 0, end: float = 12.0, stream: int = 0) -> Array:
    """Draws points of the spiral of figures 3.5 and 3.7: .04 t (sin t, cos t), t ~ U(3, end).

    The thesis prints (.04 sin t, .04 cos t), which is a circle; its figures show a spiral, whose
    radius grows with t.

    Args:
        count: the number of points.
        seed: a non-negative integer.
        end: the largest t, 12 or 15 in the thesis' figures.
        stream: different numbers draw different points with the same seed, e.g. one per split.

    Returns:
        (count, 2) float64 array, within .04 `end` of the origin.
    """
    rng = seeds.generator(seeds.checked_seed(seed), "draw", stream)
    if not end > 3:
        raise checks.invalid("`end`", "above 3, where the spiral begins", end)
    t = rng.uniform(3.0, end, checks.positive_integer("`count`", count))
    return SPIRAL_SCALE * t[:, np.newaxis] * np.stack([np.sin(t), np.cos(t)], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class CurveMixture:
    """Gaussians along a curve, each with its long axis in the tangent direction (figure 3.6).

    Attributes:
        means: (components, d).
        covariances: (components, d, d).
    """

    means: Array
    covariances: Array

    def sample(self, count: int, *, seed: int = 0, stream: int = 0) -> Array:
        """Draws (count, d) float64 points with coordinates in [-1.5, 1.5]; see `spiral`."""
        rng = seeds.generator(seeds.checked_seed(seed), "draw", stream)
        roots = np.linalg.cholesky(self.covariances)
        kept, missing = [], checks.positive_integer("`count`", count)
        while missing:
            which = rng.integers(len(self.means), size=missing)
            noise = rng.standard_normal((missing, self.means.shape[1]))
            x = self.means[which] + np.einsum("nij,nj->ni", roots[which], noise)
            x = x[(abs(x) <= EXTENT).all(axis=1)]
            kept.append(x)
            missing -= len(x)
        return np.concatenate(kept)


def manifold10d(
    *, seed: int = 0, components: int = 100, ratio: float = 0.1, dimensions: int = 10
) -> CurveMixture:
    """Returns the one-dimensional manifold in ten dimensions of figure 3.6.

    Coordinate i of the means is sin(2 pi f_i t)^e_i at evenly spaced t in [0, 1], with f_i ~ U(-1,
    1) and e_i 1 or 2. The standard deviation along the tangent is half the distance to the
    neighbors, so that the mixture has no gaps; across the tangent it is `ratio` times as large.

    Args:
        seed: a non-negative integer, the seed of the frequencies and exponents.
        components: the number of Gaussians; 25 or 100 in the thesis.
        ratio: the ratio of the short axes to the long axis.
        dimensions: the number of dimensions of the space.

    Returns:
        `CurveMixture`.
    """
    components = checks.positive_integer("`components`", components)
    ratio = checks.positive_number("`ratio`", ratio)
    dimensions = checks.positive_integer("`dimensions`", dimensions)
    rng = seeds.generator(seeds.checked_seed(seed), "manifold")
    frequency = rng.uniform(-1.0, 1.0, dimensions)
    exponent = rng.integers(1, 3, dimensions)
    t = np.linspace(0.0, 1.0, components)[:, np.newaxis]
    angle = 2 * np.pi * frequency * t
    speed = exponent * np.sin(angle) ** (exponent - 1) * np.cos(angle) * 2 * np.pi * frequency
    length = np.linalg.norm(speed, axis=1, keepdims=True)
    tangent = speed / length
    long = length[:, :, np.newaxis] / max(components - 1, 1) / 2
    along = tangent[:, :, np.newaxis] * tangent[:, np.newaxis]
    covariances = long**2 * (along + ratio**2 * (np.eye(dimensions) - along))
    return CurveMixture(np.sin(angle) ** exponent, covariances)
