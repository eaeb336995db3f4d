"""Estimates of a whole spectrum from random vectors: its density, the trace, and the diagonal."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Verbose
from thesis_tf.hessian.eigen import lanczos
from thesis_tf.hessian.eigen.basis import make_basis
from thesis_tf.hessian.eigen.lanczos import SymmetricOperator
from thesis_tf.reporting import progress, tables
from thesis_tf.reporting.results import SavedResult

TOGETHER = 8  # the number of vectors per pass over the data set
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Estimate(SavedResult):
    """A mean over random vectors.

    Attributes:
        value: a float, or an array.
        standard_error: the standard error of the mean, in the same shape.
        products: the number of products.
    """

    value: Any
    standard_error: Any
    products: int

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        values, errors = np.atleast_1d(self.value), np.atleast_1d(self.standard_error)
        rows = zip(range(len(values)), values.tolist(), errors.tolist(), strict=True)
        return ("entry", "value", "standard error"), [list(row) for row in rows]

    def summary(self) -> dict[str, Any]:
        """Returns the value and its standard error, or their means for arrays, as a plain dict."""
        return {
            "value": float(np.mean(self.value)),
            "standard_error": float(np.mean(self.standard_error)),
            "products": self.products,
        }


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SpectralDensity(SavedResult):
    """The density of eigenvalues, smoothed by a Gaussian.

    Attributes:
        grid: (n,) eigenvalues.
        density: (n,), the fraction of all eigenvalues per unit of the grid; it integrates to 1.
        standard_error: (n,), of the density, from the differences between random vectors.
        width: the Gaussian's standard deviation.
        nodes, weights: (num_vectors, num_steps), the quadrature: the mean of f over eigenvalues is
            about (weights * f(nodes)).sum(axis=1).mean(), for any f.
        products: the number of products.
    """

    grid: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    width: float
    nodes: np.ndarray
    weights: np.ndarray
    products: int

    def mean_of(self, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """Returns the mean of a function over all eigenvalues; times d it is their sum."""
        samples = (self.weights * function(self.nodes)).sum(axis=1)
        return Estimate(*_mean(samples), self.products)

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        order = np.argsort(self.nodes, axis=None)
        below = np.cumsum(self.weights.ravel()[order])
        places = np.searchsorted(below, np.array(_QUANTILES) * below[-1])
        values = self.nodes.ravel()[order][np.minimum(places, order.size - 1)]
        rows = zip(_QUANTILES, values.tolist(), strict=True)
        return ("fraction", "eigenvalues up to"), [list(row) for row in rows]

    def summary(self) -> dict[str, Any]:
        """Returns the mean eigenvalue, its error and the range of the nodes, as a plain dict."""
        mean = self.mean_of(lambda x: x)
        return {
            "mean": float(mean.value),
            "standard_error": float(mean.standard_error),
            "smallest": float(self.nodes.min()),
            "largest": float(self.nodes.max()),
            "width": float(self.width),
            "products": self.products,
        }


def spectral_density(
    operator: SymmetricOperator,
    *,
    num_steps: int = 60,
    num_vectors: int = 4,
    width: float | None = None,
    grid: npt.ArrayLike | None = None,
    seed: int = 0,
    verbose: Verbose = "auto",
) -> SpectralDensity:
    """Estimates the density of the spectrum by stochastic Lanczos quadrature.

    Each random vector costs `num_steps` products and gives a Gauss quadrature for the density
    weighted by this vector, which is exact for polynomials of degree 2 num_steps - 1.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`.
        num_steps: Lanczos steps per vector.
        num_vectors: the number of random vectors, at least 2.
        width: the standard deviation of the Gaussian kernel, positive; None for 1 % of the range.
        grid: (n,), where to evaluate the density; None for 1,000 points over the range.
        seed: the seed of the random vectors.
        verbose: "auto", 0, 1 or 2: whether to show a progress bar.

    Returns:
        `SpectralDensity`.

    #### References

    Golub, Meurant: Matrices, moments and quadrature with applications. Princeton, 2009.
    Ubaru, Chen, Saad: Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. SIAM J. Matrix
    Anal. Appl. 38(4), 2017.
    """
    steps = min(checks.positive_integer("`num_steps`", num_steps), operator.shape[0])
    _check_at_least_two(num_vectors)
    if width is not None and not 0 < width < np.inf:
        raise checks.invalid("`width`", "positive and finite", width)
    nodes, weights = np.zeros((2, num_vectors, steps))
    rng = np.random.default_rng(checked_seed(seed))
    with progress.bar(verbose, total=steps * num_vectors, description="density", unit="") as bar:
        for number in range(num_vectors):
            basis = make_basis(operator.shape[0], operator.dtype, ncv=steps)
            v0 = tf.constant(rng.normal(size=operator.shape[0]), operator.dtype)
            state = lanczos.init(v0, basis, largest=0, smallest=0)
            for _ in range(steps):
                state = lanczos.step(operator, state)
                bar.update()
            nodes[number], vectors = np.linalg.eigh(state.matrix)
            weights[number] = vectors[0] ** 2
            basis.close()
    spread, largest = float(np.ptp(nodes)), float(abs(nodes).max())
    if spread <= lanczos.rounding(largest, operator.dtype, steps=steps):
        spread = largest or 1.0  # a multiple of the identity
    width = 0.01 * spread if width is None else width
    if grid is None:
        grid = np.linspace(nodes.min() - 5 * width, nodes.max() + 5 * width, 1000)
    grid = np.asarray(grid)
    distances = (grid[:, None, None] - nodes) / width
    bells = np.exp(-0.5 * distances**2) / (width * np.sqrt(2 * np.pi))
    density, error = _mean((bells * weights).sum(axis=-1).T)
    return SpectralDensity(
        grid=grid,
        density=density,
        standard_error=error,
        width=float(width),
        nodes=nodes,
        weights=weights,
        products=steps * num_vectors,
    )


def trace(
    operator: SymmetricOperator,
    *,
    num_vectors: int = 32,
    seed: int = 0,
    verbose: Verbose = "auto",
) -> Estimate:
    """Estimates the trace by Hutchinson's method with random signs.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`.
        num_vectors: the number of random vectors, at least 2; each costs one product.
        seed: the seed of the random vectors.
        verbose: "auto", 0, 1 or 2: whether to show a progress bar.

    Returns:
        An `Estimate` of a float. Its variance is 2 (|H|_F^2 - sum of H_ii^2) / num_vectors.
    """
    samples = [z @ hz for z, hz in _random_signs(operator, num_vectors, seed, verbose)]
    value, error = _mean(np.array(samples))
    return Estimate(float(value), float(error), num_vectors)


def diagonal(
    operator: SymmetricOperator,
    *,
    num_vectors: int = 32,
    seed: int = 0,
    verbose: Verbose = "auto",
) -> Estimate:
    """Estimates the diagonal by Hutchinson's method with random signs.

    Args:
        operator, num_vectors, seed, verbose: as for `trace`.

    Returns:
        An `Estimate` of an array (d,). Entry i has the variance (|H_i|^2 - H_ii^2) / num_vectors.
    """
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for z, hz in _random_signs(operator, num_vectors, seed, verbose):
        sample = z * hz
        count, total, squares = count + 1, total + sample, squares + sample**2
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0.0) / (count - 1)
    return Estimate(mean, np.sqrt(variance), num_vectors)


def _random_signs(
    operator: SymmetricOperator, num_vectors: int, seed: int, verbose: Verbose
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields random signs z (d,) and their products Hz, in float64."""
    _check_at_least_two(num_vectors)
    rng = np.random.default_rng(checked_seed(seed))
    with progress.bar(verbose, total=num_vectors, description="products", unit="") as bar:
        for first in range(0, num_vectors, TOGETHER):
            count = min(TOGETHER, num_vectors - first)
            signs = rng.choice([-1.0, 1.0], size=(count, operator.shape[0])).astype(operator.dtype)
            products = operator @ np.ascontiguousarray(signs.T)
            bar.update(count)
            for z, hz in zip(signs, products.T, strict=True):
                yield z.astype(np.float64), np.ascontiguousarray(hz, np.float64)


def _check_at_least_two(num_vectors: int) -> None:
    if checks.positive_integer("`num_vectors`", num_vectors) < 2:
        raise checks.invalid("`num_vectors`", "at least 2, for a standard error", num_vectors)


def _mean(samples: np.ndarray) -> tuple[Any, Any]:
    """Returns the mean over the first axis, and its standard error."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
