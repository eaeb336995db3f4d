"""Mass, mean and covariance of a density in a small ball (thesis, 3.D to 3.F).

An earlier approach of the authors trained auto-encoders to return the mean of the data around a
point. Within a ball of radius delta around x0 in d dimensions,

    Z = integral of p,   m = integral of x p / Z,   C = integral of (x - m)(x - m)' p / Z,

and the formulas here are their limits for small delta in terms of p, of g = d log p / dx and of
H = d^2 log p / dx^2 at x0, with V the ball's volume:

    Z = V (p + delta^2 tr(d^2 p / dx^2) / (2 (d + 2))) + o                     (Proposition 4)
    m = x0 + delta^2 / (d + 2) g + o                                           (Theorem 3)
    C = delta^2 / (d + 2) I + delta^4 / ((d + 2)(d + 4))
        (H - 2 / (d + 2) g g' - (tr H + |g|^2) / (d + 2) I) + o                (Theorem 5)

Each remainder is smaller than the last term by delta^2, since odd terms vanish over a ball.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.special

from thesis_tf._core import checks, seeds
from thesis_tf._core.types import Array, ArrayLike, TensorLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

if TYPE_CHECKING:
    from thesis_tf.autoencoders.density.score import ScoreEstimator

_MOST_NODES = 1 << 22


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LocalMoments(TabularResult):
    """Mass, mean and covariance of a density in a ball.

    Attributes:
        mass: Z.
        mean: m (d,).
        covariance: C (d, d), around m.
        standard_errors: those of the three for a Monte Carlo estimate, otherwise None.
    """

    mass: float
    mean: Array
    covariance: Array
    _: dataclasses.KW_ONLY
    standard_errors: "LocalMoments | None" = None

    def __repr__(self) -> str:
        """Returns mass and mean, and the number of dimensions."""
        return f"LocalMoments({len(self.mean)} dimensions, mass {self.mass:.4g})"

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        rows = self._rows()
        if self.standard_errors is None:
            return ("moment", "value"), rows
        errors = self.standard_errors._rows()
        return ("moment", "value", "standard error"), [
            (name, value, error) for (name, value), (_, error) in zip(rows, errors, strict=True)
        ]

    def _rows(self) -> list[tuple[str, float]]:
        """Returns the mass, and the mean and variance of each coordinate, with their names."""
        means, variances = self.mean.tolist(), np.diag(self.covariance).tolist()
        return [
            ("mass", self.mass),
            *((f"mean of x{i}", mean) for i, mean in enumerate(means, start=1)),
            *((f"variance of x{i}", v) for i, v in enumerate(variances, start=1)),
        ]

    def summary(self) -> dict[str, Any]:
        """Returns the fields as a plain dict of numbers and lists."""
        errors = self.standard_errors
        return {
            "mass": self.mass,
            "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(),
            "standard_errors": None if errors is None else errors.summary(),
        }


def ball_volume(dimension: int, radius: float) -> float:
    """Returns the volume of a ball, pi^(d/2) / Gamma(1 + d/2) radius^d.

    Raises:
        TypeError, ValueError: the dimension isn't a positive integer, or the radius not positive.
    """
    dimension = checks.positive_integer("`dimension`", dimension)
    radius = checks.positive_number("`radius`", radius)
    return float(math.pi ** (dimension / 2) / math.gamma(1 + dimension / 2) * radius**dimension)


def ball_integral(exponents: ArrayLike, radius: float) -> float:
    """Returns the integral of x_1^a_1 ... x_d^a_d over a ball around 0 (Corollary 8).

    It is 0 if an exponent is odd, else radius^(d + a) 2 Gamma(b_1) ... Gamma(b_d) / ((d + a)
    Gamma(b_1 + ... + b_d)) with b_i = (a_i + 1) / 2 and a the sum of the a_i.

    Args:
        exponents: (d,) integers, at least 0.
        radius: positive.
    """
    exponents = np.atleast_1d(exponents)
    if (
        exponents.dtype.kind not in "iu"
        or exponents.ndim != 1
        or not exponents.size
        or (exponents < 0).any()
    ):
        raise checks.invalid("`exponents`", "integers of at least 0, shape (d,)", exponents)
    exponents = exponents.astype(np.int64)  # so that adding one doesn't overflow
    radius = checks.positive_number("`radius`", radius)
    if (exponents % 2).any():
        return 0.0
    halves = (exponents + 1) / 2
    degree = len(exponents) + exponents.sum()
    logarithm = scipy.special.gammaln(halves).sum() - scipy.special.gammaln(halves.sum())
    return float(2 * math.exp(logarithm) * radius**degree / degree)


def ball_quadrature(dimension: int, radius: float, *, order: int = 8) -> tuple[Array, Array]:
    """Returns nodes (n, d) and weights (n,) for integrals over a ball around 0.

    It is a product of Gauss rules in the radius and in the angles, exact for polynomials up to
    degree 2 order - 1. It has 2 order^d nodes, which limits it to a few dimensions.

    Raises:
        ValueError: there are more than four million nodes; use `method="monte_carlo"`.
    """
    dimension = checks.positive_integer("`dimension`", dimension)
    order = checks.positive_integer("`order`", order)
    radius = checks.positive_number("`radius`", radius)
    if 2 * order**dimension > _MOST_NODES:
        raise checks.invalid(
            "`order`",
            f"so small that 2 order^{dimension} is at most {_MOST_NODES}",
            order,
            'In more than a few dimensions use method="monte_carlo".',
        )
    if dimension == 1:
        nodes, weights = np.polynomial.legendre.leggauss(2 * order)
        return radius * nodes[:, np.newaxis], radius * weights
    # The sphere, from the circle upward: each further axis adds t = cos(angle) with the weight
    # (1 - t^2)^((k - 3) / 2) in k dimensions, whose Gauss rule is Gegenbauer's.
    angle = np.pi * (np.arange(2 * order) + 0.5) / order
    sphere = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    sphere_weights = np.full(2 * order, np.pi / order)
    for k in range(3, dimension + 1):
        exponent = (k - 3) / 2
        t, weights = scipy.special.roots_jacobi(order, exponent, exponent)
        around = np.sqrt(1 - t**2)
        sphere = np.concatenate(
            [np.c_[a * sphere, np.full(len(sphere), b)] for a, b in zip(around, t, strict=True)]
        )
        sphere_weights = np.concatenate([w * sphere_weights for w in weights])
    t, weights = scipy.special.roots_jacobi(order, 0, dimension - 1)
    radii, weights = (t + 1) / 2, weights / 2**dimension  # of r^(d - 1) on [0, 1]
    nodes = radius * radii[:, np.newaxis, np.newaxis] * sphere
    everything = radius**dimension * weights[:, np.newaxis] * sphere_weights
    return nodes.reshape(-1, dimension), everything.reshape(-1)


def local_moments(
    density: Callable[[Array], ArrayLike],
    x0: ArrayLike,
    delta: float,
    *,
    method: Literal["quadrature", "monte_carlo"] = "quadrature",
    order: int = 8,
    num_samples: int = 100_000,
    seed: int = 0,
) -> LocalMoments:
    """Computes Z, m and C of a density in the ball of radius delta around x0.

    Args:
        density: p, not necessarily normalized: from points (n, d) to values (n,).
        x0: (d,), the center.
        delta: the radius, positive.
        method: "quadrature", or "monte_carlo" in many dimensions.
        order: as for `ball_quadrature`.
        num_samples: the number of samples of the Monte Carlo estimate.
        seed: an integer >= 0, the seed of the Monte Carlo estimate.

    Returns:
        `LocalMoments`.

    Raises:
        ValueError: the density is 0 in the whole ball or not finite, delta is not positive, or x0
            has another shape.
    """
    checks.one_of("`method`", method, ("quadrature", "monte_carlo"))
    x0 = _point("`x0`", x0)
    delta = checks.positive_number("`delta`", delta)
    if method == "quadrature":
        away, weights = ball_quadrature(len(x0), delta, order=order)
    else:
        away, weights = _uniform_in_ball(len(x0), delta, num_samples, seed)
    p = np.asarray(density(x0 + away), np.float64)
    if p.shape != (len(away),) or not np.isfinite(p).all() or (p < 0).any() or not p.any():
        raise checks.invalid(
            "`density`",
            f"a function from (n, {len(x0)}) to (n,) values, finite, at least 0 and not all 0",
            f"shape {p.shape}, values from {p.min() if p.size else None} to"
            f" {p.max() if p.size else None}",
        )
    mass = float(weights @ p)
    probabilities = weights * p / mass
    shift = probabilities @ away
    centered = away - shift
    covariance = (probabilities[:, np.newaxis] * centered).T @ centered
    errors = None
    if method == "monte_carlo":
        products = centered[:, :, np.newaxis] * centered[:, np.newaxis]
        of_covariance = np.einsum("n,nij->ij", probabilities**2, (products - covariance) ** 2)
        errors = LocalMoments(
            float(np.std(weights * p * num_samples, ddof=1) / math.sqrt(num_samples)),
            np.sqrt(probabilities**2 @ centered**2),
            np.sqrt(of_covariance),
        )
    return LocalMoments(mass, x0 + shift, covariance, standard_errors=errors)


def asymptotic_moments(
    density: float, score: ArrayLike, hessian: ArrayLike, x0: ArrayLike, delta: float
) -> LocalMoments:
    """Returns Z, m and C for small delta, by Proposition 4 and Theorems 3 and 5.

    Args:
        density: p(x0).
        score: g (d,), d log p / dx at x0.
        hessian: H (d, d), d^2 log p / dx^2 at x0.
        x0: (d,).
        delta: the radius.

    Returns:
        `LocalMoments`.

    Raises:
        TypeError, ValueError: an argument has another shape or isn't finite, or the density or the
            radius isn't positive.
    """
    x0 = _point("`x0`", x0)
    d, delta = len(x0), checks.positive_number("`delta`", delta)
    density = checks.positive_number("`density`", density)
    g, hessian = _point("`score`", score, (d,)), _point("`hessian`", hessian, (d, d))
    of_p = hessian + np.outer(g, g)  # the second derivative of p over p
    mass = ball_volume(d, delta) * density * (1 + delta**2 * np.trace(of_p) / (2 * (d + 2)))
    second = hessian - 2 / (d + 2) * np.outer(g, g) - np.trace(of_p) / (d + 2) * np.eye(d)
    covariance = delta**2 / (d + 2) * (np.eye(d) + delta**2 / (d + 4) * second)
    return LocalMoments(float(mass), x0 + delta**2 / (d + 2) * g, covariance)


def local_mean(estimator: "ScoreEstimator", x: TensorLike, delta: float) -> Any:
    """Returns m (n, ...) around points x (n, ...), estimated from a reconstruction (Eq 3.25).

    m = x + delta^2 / (d + 2) (r(x) - x) / sigma^2, with d values per point.

    Args:
        estimator: a `ScoreEstimator`.
        x: (n, ...).
        delta: the radius.
    """
    score = estimator.score(x)
    dimension = int(np.prod(score.shape[1:]))
    return x + checks.positive_number("`delta`", delta) ** 2 / (dimension + 2) * score


def _point(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    """Returns finite numbers (d,), or of another shape, as float64."""
    found = checks.real_numbers(name, np.atleast_1d(values) if shape is None else values)
    if not (found.size and np.isfinite(found).all()) or (
        found.ndim != 1 if shape is None else found.shape != shape
    ):
        expected = "(d,)" if shape is None else shape
        raise checks.invalid(name, f"finite numbers of shape {expected}", f"shape {found.shape}")
    return found


def _uniform_in_ball(
    dimension: int, radius: float, num_samples: int, seed: int
) -> tuple[Array, Array]:
    count = checks.positive_integer("`num_samples`", num_samples)
    rng = np.random.default_rng(np.random.SeedSequence(seeds.checked_seed(seed)))
    directions = rng.standard_normal((count, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    away = radius * rng.uniform(size=(count, 1)) ** (1 / dimension) * directions
    return away, np.full(count, ball_volume(dimension, radius) / count)
