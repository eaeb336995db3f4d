"""Optimal reconstruction functions on a grid in one dimension (thesis, 3.3.3).

r has a free value at every point of the grid, so a difference between (r - x) / sigma^2 and the
score of the density is a property of the criterion, not a failure of a network to learn.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.autoencoders.density.quadrature import trapezoid_weights
from thesis_tf.reporting.results import SavedResult
from thesis_tf.reporting.tables import Cell

# A function from points (n,) to values (n,), or its values on a grid.
Density: TypeAlias = Callable[[Array], ArrayLike] | ArrayLike

# Rows of the DAE's matrix of Gaussian kernels that are computed at once: 32 MB in float64.
_CHUNK_ELEMENTS = 1 << 22


class ThreeWells:
    """The density of figure 3.3: p(x) proportional to exp(-E(x)), three wells of unequal depth.

    E(x) = (a (x + 1)^2 + 1) (2 a x^2 + 1) (3 a (x - 1)^2 + 1) / 1000 with a = 10; the thesis shows
    it on [-1.5, 1.5] with 1,000 points (`grid`). It is not normalized; the functions of this module
    don't require normalization. A call returns p(x), with the shape and dtype of x.
    """

    a = 10.0

    def _wells(self, x: Array) -> list[tuple[Array, Array, float]]:
        return [(k * self.a * (x - c) ** 2 + 1, 2 * k * self.a * (x - c), 2 * k * self.a)
                for k, c in ((1, -1), (2, 0), (3, 1))]  # fmt: skip

    def grid(self, points: int = 1000, *, dtype: Any = np.float64) -> Array:
        """Returns evenly spaced points (points,) on [-1.5, 1.5]."""
        return np.linspace(-1.5, 1.5, points, dtype=dtype)

    def energy(self, x: Array) -> Array:
        """Returns E(x)."""
        (f, _, _), (g, _, _), (h, _, _) = self._wells(x)
        return f * g * h / 1000

    def __call__(self, x: Array) -> Array:
        """Returns exp(-E(x))."""
        return np.asarray(np.exp(-self.energy(x)))

    def score(self, x: Array) -> Array:
        """Returns d log p(x) / dx = -E'(x)."""
        (f, df, _), (g, dg, _), (h, dh, _) = self._wells(x)
        return -(df * g * h + f * dg * h + f * g * dh) / 1000

    def curvature(self, x: Array) -> Array:
        """Returns d^2 log p(x) / dx^2 = -E''(x)."""
        (f, df, ddf), (g, dg, ddg), (h, dh, ddh) = self._wells(x)
        second = ddf * g * h + f * ddg * h + f * g * ddh
        mixed = df * dg * h + df * g * dh + f * dg * dh
        return -(second + 2 * mixed) / 1000


def rcae_1d(density: Density, grid: ArrayLike, sigma: float) -> Array:
    """Returns the r that minimizes the RCAE's loss on a grid (Eq 3.6, by Eq 3.11).

    The loss, integral of p ((r - x)^2 + sigma^2 r'^2), is discretized with r' between neighbors
    and the trapezoidal rule, which makes its minimum the solution of a symmetric tridiagonal
    system. The unknowns of the system are u = (r - x) / sigma^2, which `rcae_score_1d` returns.

    Args:
        density: p, not necessarily normalized: a function from points (n,) to values (n,), or its
            values (M,) on the grid.
        grid: (M,) increasing points, M at least 3, evenly spaced or not. Beyond its ends there are
            no data, so r is constant there.
        sigma: positive; its square is the factor of the contraction term.

    Returns:
        (M,), r on the grid, in the grid's dtype.

    Raises:
        TypeError: the grid's dtype is not a floating dtype.
        ValueError: the density is not finite and positive on the grid, the grid does not increase
            or has fewer than 3 points, or sigma is not positive.
    """
    problem = _checked(density, grid, sigma)
    return problem.grid + problem.sigma**2 * _rcae_score(problem)


def rcae_score_1d(density: Density, grid: ArrayLike, sigma: float) -> Array:
    """Returns the score that the RCAE implies, (r - x) / sigma^2, without cancellation.

    In float32 and with sigma = 0.01 its error is 1e-6 of the score's root mean square. The error of
    (r - x) / sigma^2 with the r of `rcae_1d` is 4e-5, since the difference cancels leading digits;
    it is 4e-4 with an r that is computed directly. Arguments and errors are the same as for
    `rcae_1d`.
    """
    return _rcae_score(_checked(density, grid, sigma))


def dae_1d(density: Density, grid: ArrayLike, sigma: float) -> Array:
    """Returns the r that minimizes the DAE's loss under Gaussian corruption (Eq 3.3 and 3.19).

    r(x) = E[p(x - e) (x - e)] / E[p(x - e)] with e ~ N(0, sigma^2): the mean of the x that could
    have been corrupted to x. The expectations are sums over the grid by the trapezoidal rule,
    whose error for a Gaussian is below 1e-8 if sigma is at least the spacing.

    Args:
        density: as for `rcae_1d`.
        grid: as for `rcae_1d`; the density is taken to be 0 beyond it.
        sigma: the standard deviation of the corruption, at least the grid's largest spacing.

    Returns:
        (M,), r on the grid, in the grid's dtype.

    Raises:
        TypeError: the grid's dtype is not a floating dtype.
        ValueError: as for `rcae_1d`, or sigma is below the grid's spacing.
    """
    problem = _checked(density, grid, sigma)
    return problem.grid + problem.sigma**2 * _dae_score(problem)


def dae_score_1d(density: Density, grid: ArrayLike, sigma: float) -> Array:
    """Returns the score that the DAE implies, (r - x) / sigma^2, without cancellation.

    Arguments and errors are the same as for `dae_1d`.
    """
    return _dae_score(_checked(density, grid, sigma))


def dae_loss_1d(r: ArrayLike, density: Density, grid: ArrayLike, sigma: float) -> float:
    """Returns E[(r(x + e) - x)^2] with x ~ p and e ~ N(0, sigma^2), over the grid (Eq 3.2).

    Args:
        r: (M,), the reconstruction on the grid.
        density, grid, sigma: as for `dae_1d`; p is normalized here.

    Raises:
        TypeError, ValueError: as for `dae_1d`, or r is not of shape (M,).
    """
    problem = _checked(density, grid, sigma)
    _check_resolution(problem)
    r, grid = _checked_r(r, problem), problem.grid
    ends = trapezoid_weights(problem.spacing)
    loss = np.empty_like(grid)
    for rows, away in _differences(grid, problem.sigma):
        kernel = np.exp(-(away**2) / 2) * ends
        error = (r - grid[rows, np.newaxis]) ** 2
        loss[rows] = (kernel * error).sum(axis=1) / kernel.sum(axis=1)
    return float(problem.weights @ loss / problem.weights.sum())


def rcae_loss_1d(r: ArrayLike, density: Density, grid: ArrayLike, sigma: float) -> float:
    """Returns E[(r(x) - x)^2 + sigma^2 r'(x)^2] with x ~ p, over the grid (Eq 3.6).

    Arguments and errors are the same as for `dae_loss_1d`, without its limit on sigma.
    """
    problem = _checked(density, grid, sigma)
    r = _checked_r(r, problem)
    distance = problem.weights @ (r - problem.grid) ** 2
    slope = np.diff(r) / problem.spacing
    contraction = (problem.between * problem.spacing) @ slope**2
    return float((distance + problem.sigma**2 * contraction) / problem.weights.sum())


def relative_rmse(estimate: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> float:
    """Returns the root of E[(estimate - truth)^2] / E[truth^2], with E weighted by `weights`.

    Args:
        estimate, truth: (n,) or (n, ...), of one shape.
        weights: (n,), for instance p on the grid.

    Raises:
        TypeError, ValueError: an argument has another shape, or isn't real numbers.
    """
    estimate = checks.real_numbers("`estimate`", estimate)
    truth = checks.real_numbers("`truth`", truth)
    weights = checks.real_numbers("`weights`", weights)
    if not truth.size or estimate.shape != truth.shape:
        # (n, 1) and (n,) would be broadcast to (n, n).
        raise checks.invalid(
            "`estimate` and `truth`", "of one shape (n, ...)", f"{estimate.shape} and {truth.shape}"
        )
    if weights.shape != truth.shape[:1]:
        raise checks.invalid("`weights`", f"of shape {truth.shape[:1]}", f"shape {weights.shape}")
    squared = [np.square(a).reshape(len(weights), -1).sum(1) for a in (estimate - truth, truth)]
    return float(np.sqrt((weights @ squared[0]) / (weights @ squared[1])))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExactScores(SavedResult):
    """The scores that the optimal RCAE and DAE of a density imply, for several sigmas.

    Attributes:
        grid: (M,) points.
        energy: (M,), E(x) = -log p(x), up to a constant.
        truth: (M,), d log p / dx.
        sigmas: (s,).
        rcae, dae: (s, M), the scores (r(x) - x) / sigma^2.
    """

    grid: Array
    energy: Array
    truth: Array
    sigmas: Array
    rcae: Array
    dae: Array

    def errors(self) -> dict[str, list[float]]:
        """Returns {"rcae", "dae": the `relative_rmse` for each sigma}, weighted by p."""
        p = np.exp(-self.energy)
        return {
            name: [relative_rmse(score, self.truth, p) for score in scores]
            for name, scores in (("rcae", self.rcae), ("dae", self.dae))
        }

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings = ("sigma", "error of RCAE", "error of DAE")
        return headings, list(zip(*self.summary().values(), strict=True))

    def summary(self) -> dict[str, Any]:
        """Returns the sigmas and the errors of both scores as lists, in a plain dict."""
        return {"sigma": self.sigmas.tolist(), **self.errors()}

    def __repr__(self) -> str:
        """Returns the sigmas and the number of points."""
        sigmas = ", ".join(f"{sigma:g}" for sigma in self.sigmas)
        return f"ExactScores({len(self.grid)} points, sigma {sigmas})"


def exact_scores_1d(density: ThreeWells, grid: ArrayLike, sigmas: Sequence[float]) -> ExactScores:
    """Returns the `ExactScores` of a density (figure 3.4); `draw_exact_1d` draws them.

    Args:
        density: `ThreeWells`, or another object with the methods `energy` and `score` that returns
            exp(-energy) for points (n,).
        grid: as for `rcae_1d`.
        sigmas: one or more, each as for `rcae_1d` and `dae_1d`.

    Raises:
        TypeError, ValueError: as for `rcae_1d` and `dae_1d`.
    """
    grid = np.asarray(grid)
    return ExactScores(
        grid=grid,
        energy=density.energy(grid),
        truth=density.score(grid),
        sigmas=np.asarray(sigmas, np.float64),
        rcae=np.stack([rcae_score_1d(density, grid, sigma) for sigma in sigmas]),
        dae=np.stack([dae_score_1d(density, grid, sigma) for sigma in sigmas]),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _GridProblem:
    """Checked arguments, all of one dtype: p at the M points and at the M - 1 between them."""

    grid: Array
    p: Array
    between: Array
    sigma: np.floating[Any]

    @property
    def spacing(self) -> Array:
        """The distances between neighbors (M - 1,)."""
        return np.diff(self.grid)

    @property
    def weights(self) -> Array:
        """p times the weights of the trapezoidal rule."""
        return np.asarray(self.p * trapezoid_weights(self.spacing))


def _rcae_score(problem: _GridProblem) -> Array:
    # The derivative by u_i of
    #     sum_i w_i p_i (sigma^2 u_i)^2 + sigma^2 sum_i p_i+1/2 (1 + sigma^2 u'_i+1/2)^2 dx_i
    # is 0, divided by 2 sigma^4.
    coupling = problem.sigma**2 * problem.between / problem.spacing
    bands = np.zeros((2, len(problem.grid)), problem.grid.dtype)
    bands[0, 1:] = -coupling
    bands[1] = problem.weights
    bands[1, :-1] += coupling
    bands[1, 1:] += coupling
    slope = np.diff(problem.between, prepend=0, append=0).astype(problem.grid.dtype)
    solution = scipy.linalg.solveh_banded(bands, slope, overwrite_ab=True, check_finite=False)
    return np.asarray(solution)


def _dae_score(problem: _GridProblem) -> Array:
    _check_resolution(problem)
    # In logarithms, since p may decrease by more than a Gaussian between wells.
    log_p = np.log(problem.weights)
    score = np.empty_like(problem.grid)
    for rows, away in _differences(problem.grid, problem.sigma):
        exponent = log_p - away**2 / 2
        kernel = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        score[rows] = (kernel * away).sum(axis=1) / kernel.sum(axis=1) / problem.sigma
    return score


def _differences(grid: Array, sigma: np.floating[Any]) -> Iterator[tuple[slice, Array]]:
    """Yields (rows, (x_j - x_i) / sigma for these rows i and all j), as many as fit in memory."""
    count = max(1, _CHUNK_ELEMENTS // len(grid))
    for start in range(0, len(grid), count):
        rows = slice(start, start + count)
        yield rows, (grid - grid[rows, np.newaxis]) / sigma


def _check_resolution(problem: _GridProblem) -> None:
    grid, sigma, widest = problem.grid, problem.sigma, problem.spacing.max()
    if sigma < widest * (1 - 1e-6):
        raise checks.invalid(
            "`sigma`",
            f"at least the spacing of the grid, {widest:.3g}",
            f"{sigma:.3g}",
            f"Use {int(np.ceil((grid[-1] - grid[0]) / sigma)) + 1} points or more.",
        )


def _checked_r(r: ArrayLike, problem: _GridProblem) -> Array:
    r, numbers = np.asarray(r), checks.real_numbers("`r`", r)
    if r.shape != problem.grid.shape or not np.isfinite(numbers).all():
        raise checks.invalid(
            "`r`", f"finite values of shape {problem.grid.shape}", f"shape {r.shape}"
        )
    return r


def _checked(density: Density, grid: ArrayLike, sigma: float) -> _GridProblem:
    grid = np.asarray(grid)
    if grid.dtype.kind != "f":
        advice = "Convert it: grid.astype(float)."
        raise checks.invalid("`grid`", "of a floating dtype", grid.dtype, advice, kind=TypeError)
    if grid.ndim != 1 or len(grid) < 3:
        raise checks.invalid("`grid`", "of shape (M,) with M at least 3", f"shape {grid.shape}")
    if not (np.isfinite(grid).all() and (np.diff(grid) > 0).all()):
        raise checks.invalid("`grid`", "finite increasing points", "other points", "Sort them.")
    sigma = checks.positive_number("`sigma`", sigma)
    if callable(density):
        middles = (grid[1:] + grid[:-1]) / 2
        p, between = (checks.real_numbers("`density`", density(x)) for x in (grid, middles))
        if p.shape != grid.shape or between.shape != middles.shape:
            raise checks.invalid(
                "`density`",
                f"a function from {grid.shape} to as many values",
                f"one that returns shape {p.shape}",
            )
    else:
        p = checks.real_numbers("`density`", density)  # sums of small integers would wrap around
        if p.shape != grid.shape:
            raise checks.invalid(
                "`density`", f"a function, or values of shape {grid.shape}", f"shape {p.shape}"
            )
        between = (p[1:] + p[:-1]) / 2
    p, between = (values.astype(grid.dtype, copy=False) for values in (p, between))
    everywhere = np.concatenate([p, between])
    bad = np.flatnonzero(~((everywhere > 0) & np.isfinite(everywhere)))
    if len(bad):
        where = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2])[bad[0]]
        raise checks.invalid(
            "`density`",
            "finite and above 0 on the whole grid",
            f"{everywhere[bad[0]]} at {where:.6g}",
            "Restrict the grid to the support of the data: elsewhere r is not determined.",
        )
    return _GridProblem(grid, p, between, grid.dtype.type(sigma))
