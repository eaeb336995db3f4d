"""Where iterating r ends, and whether data lie there: spurious maxima of the density (3.4.3)."""

import dataclasses

import numpy as np
import scipy.spatial
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf.autoencoders.density.data_region import DataRegion

# Of the way from x to r(x), one after the other for starts that don't come to rest: where r
# overshoots a maximum by more than its distance, whole steps circle around it or leave it.
_STEPS = (1.0, 0.3, 0.1, 0.03)
_MATRIX_ELEMENTS = 1 << 24  # of Jacobians at once
_CHUNK = 50  # iterations between looks at whether all have come to rest


@dataclasses.dataclass(frozen=True, eq=False)
class Attractors:
    """What starts that follow r(x) - x come to.

    A point counts as an end if r moves it by less than the tolerance; those closer to one another
    than `merge` are one attractor. Starts that come to rest nowhere have -1.

    Attributes:
        points: (k, ...), the attractors, that of most starts first.
        starts: (k,), how many starts came to each.
        distance: (k,), from the nearest example, in units of sigma.
        spectral_radius: (k,), the largest |eigenvalue| of dr/dx: below 1, x <- r(x) stays there.
        maximum: (k,) of bool, whether all eigenvalues of dr/dx have real parts below 1: it is a
            maximum of the density that r implies, though whole steps may overshoot it.
        spurious: (k,) of bool, whether it is a maximum and no example's noise reaches it.
        end: (n,), the attractor of each start, or -1.
        ended_outside: (n,) of bool, whether the last point of each start lies outside the region of
            the data, on an attractor or not.
        iterations: how many there were.
    """

    points: np.ndarray
    starts: np.ndarray
    distance: np.ndarray
    spectral_radius: np.ndarray
    maximum: np.ndarray
    spurious: np.ndarray
    end: np.ndarray
    ended_outside: np.ndarray
    iterations: int

    def summary(self):
        """Returns the numbers of attractors and of starts that ended at or outside, as a dict."""
        return {
            "attractors": len(self.points),
            "spurious_attractors": int(self.spurious.sum()),
            "starts_at_spurious": float(np.isin(self.end, np.flatnonzero(self.spurious)).mean()),
            "starts_ended_outside": float(self.ended_outside.mean()),
        }


def far_starts(data, count, seed, *, margin=0.5):
    """Draws points (count, ...) uniformly from a box around the data, larger on each side.

    Args:
        data: (n, ...) examples of a floating dtype.
        count: how many.
        seed: of NumPy's generator.
        margin: how far the box reaches beyond the data, in units of their extent.
    """
    low, high = np.min(data, axis=0), np.max(data, axis=0)
    reach = margin * (high - low)
    draws = np.random.default_rng(np.random.SeedSequence(seed)).uniform(
        low - reach, high + reach, (count, *np.shape(data)[1:])
    )
    return draws.astype(np.asarray(data).dtype)


def find_attractors(estimator, data, starts, *, max_iterations=2000, tolerance=1e-3, merge=1.0):
    """Follows r(x) - x from far starts and says where that ends, and how far from the data.

    First by x <- r(x); starts that don't come to rest go on by smaller parts of the step. Along a
    manifold r moves points slowly if at all, so its points may be many attractors, none of them
    spurious. What is spurious is far from all data and a maximum of the density that r implies.

    Args:
        estimator: a `ScoreEstimator` with a sigma.
        data: (n, ...) training examples.
        starts: (m, ...), for instance `far_starts(data, 1000, seed)`.
        max_iterations: of r, with each part of the step.
        tolerance: on |r(x) - x|, in units of sigma.
        merge: distance within which ends are one attractor, in units of sigma.

    Returns:
        `Attractors`.

    Raises:
        ValueError, TypeError: points that aren't finite or of a floating dtype, or don't fit r.
    """
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    x = arrays.checked_points("`starts`", starts)
    data, sigma = arrays.checked_points("`data`", data), estimator.known_sigma()
    if data.shape[1:] != x.shape[1:]:
        raise checks.invalid(
            "`starts`", f"points of shape {tuple(data.shape[1:])}, as `data`", tuple(x.shape[1:])
        )
    region, size = DataRegion(data, sigma), tolerance * sigma

    def step(x, part):
        return tf.ensure_shape(x + part * (estimator.reconstruct(x) - x), x.shape)

    @tf.function(reduce_retracing=True, autograph=False)
    def follow(x, part):
        (x,) = tf.while_loop(
            lambda x: True, lambda x: (step(x, part),), (x,), maximum_iterations=_CHUNK
        )
        return x, tf.norm(arrays.flat(estimator.reconstruct(x) - x), axis=1)

    starts, iterations, still = x, 0, np.zeros(len(x), bool)
    for part in _STEPS:
        done = 0
        while done < max_iterations and not still.all():
            x, moves = follow(x, tf.constant(part, x.dtype))
            done += _CHUNK
            still = moves.numpy() < size
        iterations += done
        outside = _outside(region, x)
        if part != _STEPS[-1]:
            # Whole steps may have thrown it anywhere; smaller ones begin anew.
            again = tf.reshape(outside & ~still, [-1] + [1] * (x.shape.rank - 1))
            x = tf.where(again, starts, x)
    ends, flat = x.numpy(), arrays.flat(x).numpy().astype(np.float64)
    chosen = np.flatnonzero(still)
    centers, labels = _merge(flat[chosen], merge * sigma)
    end = np.full(len(x), -1)
    end[chosen] = labels
    shape = (len(centers), *x.shape[1:])
    found = ends[chosen[centers]].reshape(shape)
    radius, maximum, distance = np.zeros(0), np.zeros(0, bool), np.zeros(0)
    if len(centers):
        rows = max(1, _MATRIX_ELEMENTS // flat.shape[1] ** 2)
        parts = [found[i : i + rows] for i in range(0, len(found), rows)]
        values = np.concatenate([np.linalg.eigvals(estimator.jacobian(p).numpy()) for p in parts])
        radius, maximum = abs(values).max(axis=1), (values.real < 1).all(axis=1)
        distance = region.distances(found)
    counts = np.bincount(labels, minlength=len(centers))
    spurious = (distance > region.radius) & maximum
    distance = distance / sigma
    return Attractors(found, counts, distance, radius, maximum, spurious, end, outside, iterations)


def _outside(region, x):
    """Returns whether points (n, ...) are outside a region, infinite and NaN ones included."""
    finite = tf.reduce_all(tf.math.is_finite(arrays.flat(x)), axis=1).numpy()
    outside = ~finite
    if finite.any():
        outside[finite] = ~region.contains(x.numpy()[finite])
    return outside


def _merge(ends, distance):
    """Returns the indices of one end for each attractor, most visited first, and labels (n,)."""
    if not len(ends):
        return np.zeros(0, int), np.zeros(0, int)
    tree = scipy.spatial.cKDTree(ends)
    free, groups = np.ones(len(ends), bool), []
    for index in range(len(ends)):
        if free[index]:
            near = [i for i in tree.query_ball_point(ends[index], distance) if free[i]]
            free[near] = False
            groups.append((index, near))
    groups.sort(key=lambda group: -len(group[1]))
    labels = np.empty(len(ends), int)
    for label, (_, near) in enumerate(groups):
        labels[near] = label
    return np.array([index for index, _ in groups]), labels
