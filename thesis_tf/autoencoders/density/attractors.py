"""Attractors of r, in particular spurious maxima of the density far from the data (3.4.3)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.spatial
import tensorflow as tf

from thesis_tf._core import arrays, checks, seeds
from thesis_tf._core.types import Array, TensorLike
from thesis_tf.autoencoders.density import array_kind
from thesis_tf.autoencoders.density.data_region import DataRegion
from thesis_tf.autoencoders.density.derivatives import spectra
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

if TYPE_CHECKING:
    from thesis_tf.autoencoders.density.score import ScoreEstimator

# Fractions of the way from x to r(x), tried one after the other for points that don't converge: if
# r overshoots a maximum by more than its distance, whole steps circle around it or diverge.
_STEPS = (1.0, 0.3, 0.1, 0.03)
_EXAMINED = 1000  # the number of examples at which r must be finite
_CHUNK = 50  # iterations between checks whether all points have converged
# A point can't come to rest closer than r's rounding, which is measured; but if that is more than
# this part of sigma, no point counts as at rest.
_MOST_ROUNDING = 0.1
_MOST_UNSETTLED = 0.05  # the fraction of initial points that may not converge without a warning


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attractors(TabularResult):
    """The points to which initial points converge when r is applied repeatedly.

    A point has converged if r moves it by less than the tolerance, or by less than a few times the
    rounding of r(x), which is larger for points far from zero in float32. Converged points whose
    distance is below `merge_distance` are one attractor.

    Attributes:
        points: (k, ...), the attractors, ordered by decreasing numbers of initial points.
        counts: (k,), the number of initial points that converged to each attractor.
        distance: (k,), the distance from the nearest example, in units of sigma.
        spectral_radius: (k,), the largest |eigenvalue| of dr/dx; if it is below 1, the iteration
            x <- r(x) is stable there. For points of more than 1,024 values it comes from Arnoldi
            iterations, and is NaN where they don't converge.
        maximum: (k,) of bool, whether all eigenvalues of dr/dx have real parts below 1, so that the
            attractor is a maximum of the density that r implies; whole steps may overshoot it.
            False where the eigenvalues are not known.
        spurious: (k,) of bool, whether it is a maximum that the noise of no example can reach.
        labels: (n,), the index of the attractor of each initial point, -1 for points that don't
            converge.
        ended_outside: (n,) of bool, whether the last position of each initial point is outside
            the region of the data, on an attractor or not.
        iterations: the number of iterations of r.
        rounding: the error of r(x) by rounding at examples, in units of sigma, the median.
        reach: the radius of the region of the data around each example, in units of sigma.
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
    _: dataclasses.KW_ONLY
    rounding: float = 0.0
    reach: float = math.inf

    @property
    def fraction_unsettled(self) -> float:
        """The fraction of the initial points that didn't converge."""
        return float(np.mean(self.labels < 0)) if len(self.labels) else 0.0

    def warnings(self) -> list[str]:
        """Returns sentences on why attractors may be missing; none if nothing says so."""
        found = []
        if self.fraction_unsettled > _MOST_UNSETTLED:
            found.append(
                f"{100 * self.fraction_unsettled:.0f} % of the {len(self.labels):,} starts did not"
                f" come to rest in {self.iterations:,} iterations, so attractors may be missing."
            )
        unknown = int(np.isnan(self.spectral_radius).sum())
        if unknown:
            found.append(
                f"At {unknown} of {len(self.points)} attractors the eigenvalues of dr/dx did not"
                " converge, so that these may be spurious, too."
            )
        if self.rounding > _MOST_ROUNDING / 4:
            found.append(
                f"r(x) has a rounding error of {self.rounding:.2g} sigma: subtract the mean of the"
                " data before training, or compute in float64."
            )
        return found

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
            "fraction_unsettled": self.fraction_unsettled,
        }


def far_points(data: TensorLike, count: int, *, margin: float = 0.5, seed: int = 0) -> Any:
    """Draws points (count, ...) uniformly from a box around the data, larger on each side.

    Args:
        data: (n, ...) examples of a floating dtype.
        count: the number of points.
        margin: the distance by which the box extends beyond the data, at least 0, in units of their
            extent.
        seed: an integer >= 0.

    Returns:
        (count, ...) points; an array or tensor of the same dtype as `data`.
    """
    arrays.checked_points("`data`", data, at_least=1)
    count = checks.positive_integer("`count`", count)
    margin = checks.finite_number("`margin`", margin)
    if margin < 0:
        raise checks.invalid("`margin`", "at least 0", margin)
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
        ValueError, TypeError: points aren't finite, don't have a floating dtype, or don't fit r; r
            isn't finite at initial points or examples; or the estimator has no sigma.
    """
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    for name, value in (("`tol`", tol), ("`merge_distance`", merge_distance)):
        if not value >= 0:
            raise checks.invalid(name, "at least 0", value)
    x = arrays.checked_points("`initial_points`", initial_points)
    data = arrays.checked_points("`data`", data, at_least=1)
    sigma = estimator.known_sigma()
    if data.shape[1:] != x.shape[1:]:
        raise checks.invalid(
            "`initial_points`",
            f"points of shape {tuple(data.shape[1:])}, as `data`",
            tuple(x.shape[1:]),
        )
    estimator.check_finite(x, "`initial_points`")
    estimator.check_finite(tf.cast(data[:_EXAMINED], x.dtype), "`data`")
    region, size = DataRegion(data, sigma), tol * sigma

    def step(x: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(x + fraction * (estimator.reconstruct(x) - x), x.shape)

    @tf.function(reduce_retracing=True, autograph=False)
    def follow(x: tf.Tensor, fraction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        (x,) = tf.while_loop(
            lambda x: True, lambda x: (step(x, fraction),), (x,), maximum_iterations=_CHUNK
        )
        r = estimator.reconstruct(x)
        return x, tf.norm(arrays.flat(r - x), axis=1), _rounding(estimator, x, r)

    initial, iterations = x, 0
    rounding: Array = np.zeros(len(x))
    at_rest: Array = np.zeros(len(x), bool)
    for fraction in _STEPS:
        done = 0
        while done < max_iterations and not at_rest.all():
            x, moves, error = follow(x, tf.constant(fraction, x.dtype))
            done += _CHUNK
            rounding = error.numpy().astype(np.float64)
            at_rest = moves.numpy() < np.fmax(size, np.fmin(4 * rounding, _MOST_ROUNDING * sigma))
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
        radius, real_part = _extreme_eigenvalues(estimator, found)
        maximum = real_part < 1
        distance = region.distances(found)
    counts = np.bincount(labels_at_rest, minlength=len(centers))
    spurious = (distance > region.radius) & maximum
    few = tf.cast(data[:_EXAMINED], x.dtype)
    error = _rounding(estimator, few, estimator.reconstruct(few)).numpy()
    return Attractors(
        found, counts, distance / sigma, radius, maximum, spurious, labels, outside, iterations,
        rounding=float(np.median(error)) / sigma,
        reach=region.radius / sigma,
    )  # fmt: skip


def _extreme_eigenvalues(estimator: "ScoreEstimator", points: Array) -> tuple[Array, Array]:
    """Returns the largest |eigenvalue| of dr/dx and the largest real part of one, both (n,).

    Both are NaN where they don't converge.
    """
    size = math.prod(points.shape[1:])
    if size > spectra.DENSE:
        tol = float(np.finfo(points.dtype).eps) ** 0.5
        pairs = [
            spectra.largest(estimator.products_at(tf.constant(points[i : i + 1])), size, tol=tol)
            for i in range(len(points))
        ]
        radius, real_part = np.array(pairs).T
        unknown = np.isnan(radius) | np.isnan(real_part)
        return np.where(unknown, np.nan, radius), np.where(unknown, np.nan, real_part)
    parts = [
        np.linalg.eigvals(estimator.jacobian(points[piece]))
        for piece in spectra.pieces(len(points), size)
    ]
    values = np.concatenate(parts)
    return abs(values).max(axis=1), values.real.max(axis=1)


def _rounding(estimator: "ScoreEstimator", x: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Returns the norm of the rounding error of r(x), (n,), for points x and r(x) (n, ...).

    It is measured by second differences over steps of a few roundings of float32, since a model
    may compute in float32 for x in float64. A smooth r without rounding has a difference of 0. It
    is at least the rounding of x itself.
    """
    signs = 2 * tf.random.stateless_uniform(tf.shape(x), (0, 1), 0, 2, tf.int32) - 1
    size = tf.minimum(tf.abs(x) * 2.0**-20, estimator.known_sigma() / 100)
    move = tf.cast(signs, x.dtype) * size
    ends = estimator.reconstruct(x + move) + estimator.reconstruct(x - move)
    # The difference of three values with independent errors has 6^(1/2) times the error of one.
    found = tf.norm(arrays.flat(ends - 2 * r), axis=1) / 6**0.5
    epsilon = float(np.finfo(x.dtype.as_numpy_dtype).eps)  # rounding is uniform in its width
    return tf.maximum(found, epsilon / 12**0.5 * tf.norm(arrays.flat(x), axis=1))


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
