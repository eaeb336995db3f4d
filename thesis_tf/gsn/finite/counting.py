"""Generative stochastic networks whose P(x | x~) comes from counts or smoothing kernels.

This is figure 5.3. P(x | x~) has no parametric form, so a chain's histogram differs from the data
distribution only by the error of the finite training set and the sampling error of the chain.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import checked_problem, counted_posterior
from thesis_tf.gsn.finite.markov import Shape
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# As a fraction of the covariance's largest eigenvalue. Smaller eigenvalues are 0 up to rounding.
_NO_VARIANCE = 1e-10


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CountingResult(TabularResult):
    """A discrete distribution, the chain that was learned from it, and the states it visited.

    Attributes:
        truth: (n,), P(x).
        training_histogram: (n,), the fraction of training examples with each value.
        chain_histogram: (n,), the fraction of the chain's states with each value.
        stationary: (n,), the limit of `chain_histogram` for infinitely many steps.
        standard_errors: (n,), of `chain_histogram` around `stationary`; they account for the
            chain's autocorrelation.
        reconstruction: (m, n), the learned P(x | x~).
        transition: (n, n), the transition matrix of the learned chain.
        statistic: e' V^+ e with e = chain_histogram - stationary and V its covariance. It has a
            chi-square distribution, like Pearson's statistic for independent draws.
        degrees_of_freedom: those of the statistic; usually the number of distinct values in the
            training set minus one.
    """

    truth: np.ndarray
    training_histogram: np.ndarray
    chain_histogram: np.ndarray
    stationary: np.ndarray
    standard_errors: np.ndarray
    reconstruction: np.ndarray
    transition: np.ndarray
    statistic: float
    degrees_of_freedom: int

    @property
    def p_value(self) -> float:
        """The probability that the statistic is at least this large by chance."""
        return float(scipy.stats.chi2.sf(self.statistic, self.degrees_of_freedom))

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings = ("state", "truth", "training", "chain", "stationary", "standard error")
        histograms = (self.truth, self.training_histogram, self.chain_histogram)
        columns = (*histograms, self.stationary, self.standard_errors)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return headings, [(state, *row) for state, row in enumerate(rows)]

    def table(self) -> str:
        """Returns a row for each state, with the statistic of the chain below."""
        return (
            f"{super().table()}\nChain against its limit: chi-square {self.statistic:.4g},"
            f" {self.degrees_of_freedom} degrees of freedom, p = {self.p_value:.2g}."
        )

    def summary(self) -> dict[str, Any]:
        """Returns the statistic and the distance of the chain's limit to P(x), a plain dict."""
        return {
            "states": len(self.truth),
            "statistic": self.statistic,
            "degrees_of_freedom": self.degrees_of_freedom,
            "p_value": self.p_value,
            "distance_of_stationary_to_truth": float(np.abs(self.stationary - self.truth).sum()),
        }


def local_corruption(num_states: int, *, reach: int = 1) -> Array:
    """Returns C(x~ | x), (n, n): x~ is uniform over the values within `reach` of x.

    Values at the ends have fewer neighbors, so they stay unchanged with a larger probability.

    Args:
        num_states: n.
        reach: the largest distance of x~ from x.
    """
    values = np.arange(checks.positive_integer("`num_states`", num_states))
    near = np.abs(values - values[:, np.newaxis]) <= checks.positive_integer("`reach`", reach)
    return near / near.sum(axis=1, keepdims=True)


def counting_chain(
    data: ArrayLike,
    corruption: ArrayLike,
    *,
    num_examples: int = 5000,
    num_results: int = 5000,
    seed: int = 0,
) -> CountingResult:
    """Learns P(x | x~) by counting and runs the resulting chain (figure 5.3, top).

    Each example is corrupted once. The chain begins at the first example. The standard errors
    assume a stationary chain; the examples are distributed so nearly like the stationary
    distribution that the difference is negligible.

    Args:
        data: (n,), P(x); 10 values in the thesis.
        corruption: (n, m), C(x~ | x), such as the result of `local_corruption`.
        num_examples: the number of training examples that are drawn from P(x).
        num_results: the number of states of the chain that are counted, from the first step on.
        seed: a non-negative integer.

    Returns:
        `CountingResult`.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape or isn't a
            number, or the learned chain has several recurrent classes because there are too few
            examples to bridge the gaps in the data.
    """
    data, corruption = checked_problem(data, corruption)
    num_examples = checks.positive_integer("`num_examples`", num_examples)
    num_results = checks.positive_integer("`num_results`", num_results)
    rng = np.random.default_rng(checked_seed(seed))
    away = corruption.cumsum(axis=1)
    examples = _draw(np.broadcast_to(data.cumsum(), (num_examples, len(data))), rng)
    reconstruction = counted_posterior(
        examples, _draw(away[examples], rng), len(data), num_corrupted=corruption.shape[1]
    )
    back = reconstruction.cumsum(axis=1)
    x, visits = examples[:1], np.zeros(len(data))
    for _ in range(num_results):
        x = _draw(back[_draw(away[x], rng)], rng)
        visits[x] += 1
    transition = corruption @ reconstruction
    stationary = markov.stationary_distribution(transition)
    covariance = markov.occupation_covariance(transition, num_results)
    statistic, freedom = _chi_square(visits / num_results - stationary, covariance)
    return CountingResult(
        truth=data,
        training_histogram=np.bincount(examples, minlength=len(data)) / num_examples,
        chain_histogram=visits / num_results,
        stationary=stationary,
        standard_errors=np.sqrt(np.maximum(np.diag(covariance), 0)),
        reconstruction=reconstruction,
        transition=transition,
        statistic=statistic,
        degrees_of_freedom=freedom,
    )


def parzen_chain(
    examples: ArrayLike,
    corruption_scale: float,
    kernel_scale: float,
    num_results: int,
    *,
    num_chains: int = 1,
    initial_state: ArrayLike | None = None,
    seed: int = 0,
) -> Array:
    """Runs chains whose P(x | x~) is a Parzen estimate from examples (figure 5.3, bottom).

    A step corrupts x to x~ = x + corruption_scale e, chooses example i with probability
    proportional to C(x~ | x_i), and draws x' = x_i + kernel_scale e'; e and e' are standard normal.

    With a kernel scale of 0 the chain preserves the empirical distribution of the examples exactly,
    because its reconstruction is the posterior. Smoothing kernels that are narrow relative to the
    corruption smooth that distribution. Wider ones also change the probabilities of the examples,
    since x~ is then farther from x_i than C assumes.

    Args:
        examples: (n, d), of a floating dtype.
        corruption_scale: the standard deviation of the corruption, positive.
        kernel_scale: the standard deviation of the smoothing kernels, at least 0.
        num_results: the number of states of each chain that are returned, from the first step on.
        num_chains: the number of parallel chains; a step needs memory for num_chains * n values.
        initial_state: (num_chains, d), where the chains begin; None for random examples.
        seed: a non-negative integer.

    Returns:
        (num_results, num_chains, d) float64.

    Raises:
        TypeError: examples or initial states don't have a floating dtype, or another argument
            isn't a number.
        ValueError: an array has another shape or isn't finite, or a number is out of range.
    """
    examples = _checked_points("`examples`", examples, (None, None))
    corruption_scale = checks.positive_number("`corruption_scale`", corruption_scale)
    if kernel_scale != 0:
        kernel_scale = checks.positive_number("`kernel_scale`, if not 0,", kernel_scale)
    num_results = checks.positive_integer("`num_results`", num_results)
    num_chains = checks.positive_integer("`num_chains`", num_chains)
    rng, shape = np.random.default_rng(checked_seed(seed)), (num_chains, examples.shape[1])
    if initial_state is None:
        x = examples[rng.integers(len(examples), size=num_chains)]
    else:
        x = _checked_points("`initial_state`", initial_state, shape)
    # Centered and in units of the corruption, so that the squares in the exponents stay small.
    center = examples.mean(axis=0)
    scaled = (examples - center) / corruption_scale
    half_squares = np.square(scaled).sum(axis=1) / 2
    samples = np.empty((num_results, *shape))
    for step in range(num_results):
        corrupted = (x - center) / corruption_scale + rng.standard_normal(shape)
        # The term |x~|^2 / 2 is omitted because it is the same for all examples.
        exponents = corrupted @ scaled.T - half_squares
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        chosen = _draw(weights.cumsum(axis=1), rng)
        x = examples[chosen] + kernel_scale * rng.standard_normal(shape)
        samples[step] = x
    return samples


def _draw(cumulative: Array, rng: np.random.Generator) -> Array:
    """Draws an index from each row of cumulative weights (n, k); returns (n,)."""
    # 1 - u is in (0, 1], so that no index of weight 0 and none past the end can be drawn.
    level = (1 - rng.random((len(cumulative), 1))) * cumulative[:, -1:]
    return (cumulative < level).sum(axis=1)


def _chi_square(error: Array, covariance: Array) -> tuple[float, int]:
    values, vectors = np.linalg.eigh(covariance)
    varies = values > _NO_VARIANCE * values.max()
    along = error @ vectors[:, varies]
    return float((along**2 / values[varies]).sum()), int(varies.sum())


def _checked_points(name: str, points: ArrayLike, shape: Shape) -> Array:
    points = np.asarray(points)
    if points.dtype.kind != "f":
        advice = "Convert it: x.astype(float)."
        raise checks.invalid(name, "of a floating dtype", points.dtype, advice, kind=TypeError)
    fits = points.ndim == 2 and points.size > 0
    if not (fits and all(n in (None, m) for n, m in zip(shape, points.shape, strict=True))):
        wanted = "(n, d)" if None in shape else shape
        raise checks.invalid(name, f"of shape {wanted}", f"shape {points.shape}")
    if not np.isfinite(points).all():
        raise checks.invalid(name, "finite", "NaN or infinity")
    return points.astype(np.float64)
