"""What random vectors tell of a whole spectrum: its density, its trace, and the diagonal."""

import dataclasses

import numpy as np
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf.hessian.eigen.lanczos import Lanczos

TOGETHER = 8  # vectors that go through the data set in one pass


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over random vectors.

    Attributes:
        value: a float, or an array.
        standard_error: of the mean, in the same shape.
        products: how many products it took.
    """

    value: object
    standard_error: object
    products: int


@dataclasses.dataclass(frozen=True)
class SpectralDensity:
    """The density of eigenvalues, smoothed by a Gaussian.

    Attributes:
        grid: (n,) eigenvalues.
        density: (n,), eigenvalues a unit of the grid as a part of all; it integrates to 1.
        standard_error: (n,), of the density, from the differences between random vectors.
        width: the Gaussian's standard deviation.
        nodes, weights: (probes, steps), the quadrature: the mean over eigenvalues of any f is
            about (weights * f(nodes)).sum(axis=1).mean().
        products: how many products it took.
    """

    grid: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    width: float
    nodes: np.ndarray
    weights: np.ndarray
    products: int

    def mean_of(self, function):
        """The mean of a function over all eigenvalues: an `Estimate`; times d, their sum."""
        samples = (self.weights * function(self.nodes)).sum(axis=1)
        return Estimate(*_mean(samples), self.products)


def spectral_density(operator, steps=60, probes=4, *, width=None, grid=None, seed=0, progress=True):
    """Estimates the density of the spectrum by stochastic Lanczos quadrature.

    Each random vector costs `steps` products and gives a Gauss quadrature of the density as that
    vector sees it, exact for polynomials of degree 2 steps - 1.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`.
        steps: Lanczos steps a vector.
        probes: random vectors, two at least.
        width: standard deviation of the Gaussian that smooths; None for a hundredth of the range.
        grid: (n,) where to take the density; None for 1,000 points over the range.
        seed: of the random vectors.
        progress: whether to show a bar on a terminal.

    Returns:
        `SpectralDensity`.

    #### References

    Golub, Meurant: Matrices, moments and quadrature with applications. Princeton, 2009.
    Ubaru, Chen, Saad: Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. SIAM J. Matrix
    Anal. Appl. 38(4), 2017.
    """
    steps = min(checks.positive_integer("`steps`", steps), operator.shape[0])
    _at_least_two(probes)
    nodes, weights = np.zeros((2, probes, steps))
    rng = np.random.default_rng(seed)
    with tqdm.tqdm(
        total=steps * probes, desc="density", unit="", disable=None if progress else True
    ) as bar:
        for probe in range(probes):
            lanczos = Lanczos(operator, 0, 0, steps, np.inf)
            lanczos.start(tf.constant(rng.normal(size=operator.shape[0]), operator.dtype))
            for _ in range(steps):
                lanczos.step()
                bar.update()
            nodes[probe], vectors = np.linalg.eigh(lanczos.matrix)
            weights[probe] = vectors[0] ** 2
            lanczos.basis.close()
    spread = np.ptp(nodes) or max(abs(nodes).max(), 1.0)
    width = 0.01 * spread if width is None else width
    if grid is None:
        grid = np.linspace(nodes.min() - 5 * width, nodes.max() + 5 * width, 1000)
    distances = (np.asarray(grid)[:, None, None] - nodes) / width
    bells = np.exp(-0.5 * distances**2) / (width * np.sqrt(2 * np.pi))
    density, error = _mean((bells * weights).sum(axis=-1).T)
    return SpectralDensity(np.asarray(grid), density, error, width, nodes, weights, steps * probes)


def trace(operator, probes=32, *, seed=0):
    """Estimates the trace by Hutchinson's method with random signs.

    Returns:
        An `Estimate` of floats. Its variance is 2 (|H|_F^2 - sum of H_ii^2) / probes.
    """
    samples = [z @ hz for z, hz in _random_signs(operator, probes, seed)]
    return Estimate(*_mean(np.array(samples)), probes)


def diagonal(operator, probes=32, *, seed=0):
    """Estimates the diagonal by Hutchinson's method with random signs.

    Returns:
        An `Estimate` of arrays (d,). The variance of entry i is (|H_i|^2 - H_ii^2) / probes.
    """
    count, total, squares = 0, 0.0, 0.0
    for z, hz in _random_signs(operator, probes, seed):
        sample = z * hz
        count, total, squares = count + 1, total + sample, squares + sample**2
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0.0) / (count - 1)
    return Estimate(mean, np.sqrt(variance), probes)


def _random_signs(operator, probes, seed):
    _at_least_two(probes)
    rng = np.random.default_rng(seed)
    for first in range(0, probes, TOGETHER):
        count = min(TOGETHER, probes - first)
        signs = rng.choice([-1.0, 1.0], size=(count, operator.shape[0])).astype(operator.dtype)
        results = operator.multiply([tf.constant(z) for z in signs])
        for z, result in zip(signs, results, strict=True):
            yield z.astype(np.float64), result.numpy().astype(np.float64)


def _at_least_two(probes):
    if checks.positive_integer("`probes`", probes) < 2:
        raise checks.invalid("`probes`", "at least 2, for a standard error", probes)


def _mean(samples):
    """The mean over the first axis, and its standard error."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
