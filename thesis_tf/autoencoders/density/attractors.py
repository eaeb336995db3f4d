"""Attractors of r, in particular spurious maxima of the density far from the data (3.4.3)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.spatial
import tensorflow as tf

from thesis_tf._core import arrays, checks, seeds
from thesis_tf._core.types import Array, TensorLike
from thesis_tf.autoencoders.density import array_kind
from thesis_tf.autoencoders.density.data_region import DataRegion
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

if TYPE_CHECKING:
    from thesis_tf.autoencoders.density.score import ScoreEstimator

# Fractions of the way from x to r(x), tried one after the other for points that don't converge: if
# r overshoots a maximum by more than its distance, whole steps circle around it or diverge.
_STEPS = (1.0, 0.3, 0.1, 0.03)
_MATRIX_ELEMENTS = 1 << 24  # the number of elements of Jacobians that are computed at once
_CHUNK = 50  # iterations between checks whether all points have converged


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attractors(TabularResult):
    """The points to which initial points converge when r is applied repeatedly.

    A point has converged if r moves it by less than the tolerance. Converged points whose distance
    is below `merge_distance` are one attractor.

    Attributes:
        points: (k, ...), the attractors, ordered by decreasing numbers of initial points.
        counts: (k,), the number of initial points that converged to each attractor.
        distance: (k,), the distance from the nearest example, in units of sigma.
        spectral_radius: (k,), the largest |eigenvalue| of dr/dx; if it is below 1, the iteration
            x <- r(x) is stable there.
        maximum: (k,) of bool, whether all eigenvalues of dr/dx have real parts below 1, so that the
            attractor is a maximum of the density that r implies; whole steps may overshoot it.
        spurious: (k,) of bool, whether it is a maximum that the noise of no example can reach.
        labels: (n,), the index of the attractor of each initial point, -1 for points that don't
            converge.
        ended_outside: (n,) of bool, whether the last position of each initial point is outside
            the region of the data, on an attractor or not.
        iterations: the number of iterations of r.
    """

    points: Array
    counts: Array
    distance: Array
    spectral_radius: Array
    maximum: Array
    spurious: Array
    labels: Array
    ended_outside: Array
    iterations: int

    def __repr__(self) -> str:
        """Returns the numbers of attractors and initial points."""
        return (
            f"Attractors({len(self.points)} from {len(self.labels)} initial points,"
            f" {int(self.spurious.sum())} spurious)"
        )

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings = ("attractor", "points", "distance/sigma", "radius", "maximum", "spurious")
        columns = (self.counts, self.distance, self.spectral_radius, self.maximum, self.spurious)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return headings, [(number, *row) for number, row in enumerate(rows)]

    def summary(self) -> dict[str, Any]:
        """Returns numbers of attractors, and fractions of the initial points, as a dict."""
        return {
            "attractors": len(self.points),
            "spurious_attractors": int(self.spurious.sum()),
            "fraction_at_spurious": float(
                np.isin(self.labels, np.flatnonzero(self.spurious)).mean()
            ),
            "fraction_ended_outside": float(self.ended_outside.mean()),
        }


def far_points(data: TensorLike, count: int, *, margin: float = 0.5, seed: int = 0) -> Any:
    """Draws points (count, ...) uniformly from a box around the data, larger on each side.

    Args:
        data: (n, ...) examples of a floating dtype.
        count: the number of points.
        margin: the distance by which the box extends beyond the data, in units of their extent.
        seed: an integer >= 0.

    Returns:
        (count, ...) points; an array or tensor of the same dtype as `data`.
    """
    low, high = np.min(data, axis=0), np.max(data, axis=0)
    reach = margin * (high - low)
    generator = np.random.default_rng(np.random.SeedSequence(seeds.checked_seed(seed)))
    draws = generator.uniform(low - reach, high + reach, (count, *np.shape(data)[1:]))
    return array_kind.like(data, tf.constant(draws.astype(np.asarray(data).dtype)))


def find_attractors(
    estimator: "ScoreEstimator",
    data: TensorLike,
    initial_points: TensorLike,
    *,
    max_iterations: int = 2000,
    tol: float = 1e-3,
    merge_distance: float = 1.0,
) -> Attractors:
    """Applies r repeatedly to points far from the data, and compares the limits with the data.

    Points first move by x <- r(x); those that don't converge continue with smaller steps. Along a
    manifold of data, r moves points slowly or not at all, so there may be many attractors on it,
    which aren't spurious. A spurious attractor is a maximum of the density that r implies, and far
    from all data.

    Args:
        estimator: a `ScoreEstimator` with a sigma.
        data: (n, ...) training examples.
        initial_points: (m, ...), for instance `far_points(data, 1000)`.
        max_iterations: the maximum number of iterations of r, for each size of the step.
        tol: the tolerance of |r(x) - x|, in units of sigma.
        merge_distance: the distance within which converged points are one attractor, in units of
            sigma.

    Returns:
        `Attractors`.

    Raises:
        ValueError, TypeError: points aren't finite, don't have a floating dtype, or don't fit r; or
            the estimator has no sigma.
    """
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    x = arrays.checked_points("`initial_points`", initial_points)
    data, sigma = arrays.checked_points("`data`", data), estimator.known_sigma()
    if data.shape[1:] != x.shape[1:]:
        raise checks.invalid(
            "`initial_points`",
            f"points of shape {tuple(data.shape[1:])}, as `data`",
            tuple(x.shape[1:]),
        )
    region, size = DataRegion(data, sigma), tol * sigma

    def step(x: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(x + fraction * (estimator.reconstruct(x) - x), x.shape)

    @tf.function(reduce_retracing=True, autograph=False)
    def follow(x: tf.Tensor, fraction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        (x,) = tf.while_loop(
            lambda x: True, lambda x: (step(x, fraction),), (x,), maximum_iterations=_CHUNK
        )
        return x, tf.norm(arrays.flat(estimator.reconstruct(x) - x), axis=1)

    initial, iterations = x, 0
    at_rest: Array = np.zeros(len(x), bool)
    for fraction in _STEPS:
        done = 0
        while done < max_iterations and not at_rest.all():
            x, moves = follow(x, tf.constant(fraction, x.dtype))
            done += _CHUNK
            at_rest = moves.numpy() < size
        iterations += done
        outside = _outside(region, x)
        if fraction != _STEPS[-1]:
            # Whole steps may have moved a point far away; smaller steps begin at the initial point.
            again = tf.reshape(outside & ~at_rest, [-1] + [1] * (x.shape.rank - 1))
            x = tf.where(again, initial, x)
    ends, flat = x.numpy(), arrays.flat(x).numpy().astype(np.float64)
    chosen = np.flatnonzero(at_rest)
    centers, labels_at_rest = _merge(flat[chosen], merge_distance * sigma)
    labels = np.full(len(x), -1)
    labels[chosen] = labels_at_rest
    shape = (len(centers), *x.shape[1:])
    found = ends[chosen[centers]].reshape(shape)
    radius, distance = np.zeros(0), np.zeros(0)
    maximum: Array = np.zeros(0, bool)
    if len(centers):
        rows = max(1, _MATRIX_ELEMENTS // flat.shape[1] ** 2)
        parts = [found[i : i + rows] for i in range(0, len(found), rows)]
        values = np.concatenate([np.linalg.eigvals(estimator.jacobian(p)) for p in parts])
        radius, maximum = abs(values).max(axis=1), np.all(values.real < 1, axis=1)
        distance = region.distances(found)
    counts = np.bincount(labels_at_rest, minlength=len(centers))
    spurious = (distance > region.radius) & maximum
    return Attractors(
        found, counts, distance / sigma, radius, maximum, spurious, labels, outside, iterations
    )


def _outside(region: DataRegion, x: tf.Tensor) -> Array:
    """Returns whether points (n, ...) are outside a region; true for infinity and NaN."""
    finite = tf.reduce_all(tf.math.is_finite(arrays.flat(x)), axis=1).numpy()
    outside = ~finite
    if finite.any():
        outside[finite] = ~region.contains(x.numpy()[finite])
    return outside


def _merge(ends: Array, distance: float) -> tuple[Array, Array]:
    """Returns the index of one limit per attractor, most frequent first, and labels (n,)."""
    if not len(ends):
        return np.zeros(0, int), np.zeros(0, int)
    tree = scipy.spatial.cKDTree(ends)
    free = np.ones(len(ends), bool)
    groups: list[tuple[int, list[int]]] = []
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
