"""The variance of the gradient's estimate under a proposal (sections 7.3 and 7.A.4).

Draw an example n with a probability q_n in proportion to omega_n, and scale its gradient g_n by
mean(omega) / omega_n: the result has the covariance Sigma(q), whose trace is (Eq. 7.6-7.9)

    Tr Sigma(q) = mean_n(omega_n) mean_n(|g_n|^2 / omega_n) - |mean_n g_n|^2.

Here it is called the gradient variance. It is smallest for omega = |g| (Corollary 2), where the
first term is mean(|g|)^2; uniform draws give mean(|g|^2); omega from old parameters lies between
them or, when too old, above both. Minibatches of m have a variance m times smaller.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.issgd.sampling.smoothing import Smoothing, as_smoothing
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import TabularResult

# Draws with equal weights differ from uniform draws only by rounding, which must not switch draws.
_ROUNDING = 1e-9


def gradient_variance(
    norms: ArrayLike, weights: ArrayLike, *, true_gradient_squared: float = 0.0
) -> float:
    """Returns Tr Sigma(q) for draws in proportion to weights.

    Args:
        norms: (N,) |g_n| with the current parameters: norms, not their squares.
        weights: (N,) omega_n, at least 0; if all are 0, draws are uniform, as in `Proposal`.
        true_gradient_squared: |mean_n g_n|^2. With 0 the value is the upper bound of 7.A.4. The
            term is the same for all proposals, so their order doesn't depend on it.

    Returns:
        The variance; infinite if an example with a gradient has a weight of 0.
    """
    squared = _checked_squared(true_gradient_squared)
    found = _checked("`norms`", norms)
    terms = _Terms(found, _checked("`weights`", weights, len(found)))
    return terms.value - squared


DRAWS = ("ideal", "stale", "uniform", "actual")


@dataclasses.dataclass(frozen=True, repr=False)
class GradientVariances(TabularResult):
    """Gradient variances of several proposals on the same gradients.

    Attributes:
        ideal: for draws in proportion to current norms, the smallest possible variance.
        stale: for draws in proportion to the previously measured norms.
        uniform: for uniform draws.
        actual: for the draws of the proposal.
        smoothed: {rule: variance}, for the previously measured norms with each smoothing rule.
        excess: actual - uniform.
        true_gradient_squared: |mean_n g_n|^2, which was subtracted; 0 if the variances are bounds.
        standard_errors: {name of an attribute above, or rule: float}; all are 0 if the variances
            were computed over the whole data set. The standard error of `excess` is much smaller
            than those of its two terms, which are computed on the same examples.
    """

    ideal: float
    stale: float
    uniform: float
    actual: float
    smoothed: Mapping[Smoothing, float]
    excess: float
    true_gradient_squared: float
    standard_errors: Mapping[str | Smoothing, float]

    def __repr__(self) -> str:
        """Returns the variances of the four kinds of draws."""
        shown = ", ".join(f"{name}={getattr(self, name):.4g}" for name in DRAWS)
        return f"GradientVariances({shown})"

    def by_draws(self) -> dict[str, float]:
        """Returns {draws: variance}, with "stale+10" and the like for smoothed norms."""
        named = {name: getattr(self, name) for name in DRAWS}
        return named | {f"stale{rule}": value for rule, value in self.smoothed.items()}

    def summary(self) -> dict[str, Any]:
        """Returns the variances, their excess and the true gradient as a plain dict."""
        return {
            **self.by_draws(),
            "excess": self.excess,
            "true_gradient_squared": self.true_gradient_squared,
        }

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        errors = {
            name if isinstance(name, str) else f"stale{name}": error
            for name, error in self.standard_errors.items()
        }
        rows: list[list[tables.Cell]] = [
            [name, value, errors[name]] for name, value in self.by_draws().items()
        ]
        return ("draws", "gradient variance", "standard error"), rows

    def sqrt(self) -> dict[str, float]:
        """Returns the square roots of `by_draws`, which figure 7.4 shows.

        The thesis' program took the square root of stale norms twice: its curve for them is that of
        omega = |g|^(1/2), which is not comparable.

        A variance below 0, which can result from a sample or a bound on the true gradient, is set
        to 0.
        """
        return {name: float(np.sqrt(max(v, 0.0))) for name, v in self.by_draws().items()}


def compare_draws(
    norms: ArrayLike,
    stale_norms: ArrayLike,
    *,
    smoothed_norms: ArrayLike | None = None,
    smoothings: Sequence[Smoothing | float] = (10.0, 1.0),
    true_gradient_squared: float = 0.0,
    population: int | None = None,
) -> GradientVariances:
    """Computes the gradient variances of ideal, stale, uniform and actual draws (figure 7.4).

    The examples are the whole data set, or those whose norms were just measured again, so that
    their old norms are also known. In this case, means over them estimate means over the whole data
    set.

    Args:
        norms: (n,) |g| with the current parameters.
        stale_norms: (n,) the previously measured norms.
        smoothed_norms: (n,) the norms with which draws were in proportion, as returned by
            `Proposal.smoothed_norms`; None for the stale norms.
        smoothings: rules or numbers to apply to the stale norms; by default those of the thesis.
        true_gradient_squared: |mean_n g_n|^2, or a bound on it; see `gradient_variance`.
        population: the size of the data set, if the examples are a random subset. Standard errors
            assume a subset drawn without replacement, example by example; if blocks are measured
            and the order of the data is not random, they are too small.

    Returns:
        The `GradientVariances`.
    """
    true_gradient_squared = _checked_squared(true_gradient_squared)
    norms = _checked("`norms`", norms)
    count = len(norms)
    if population is not None and not population >= count:
        raise checks.invalid(
            "`population`", f"at least {count}, the number of the examples", population
        )
    stale = _checked("`stale_norms`", stale_norms, count)
    actual = stale
    if smoothed_norms is not None:
        actual = _checked("`smoothed_norms`", smoothed_norms, count)
    rules = [as_smoothing(value) for value in smoothings]
    terms: dict[str | Smoothing, _Terms] = {
        "ideal": _Terms(norms, norms),
        "stale": _Terms(norms, stale),
        "uniform": _Terms(norms, np.ones(count)),
        "actual": _Terms(norms, actual),
    }
    for rule in rules:
        terms[rule] = _Terms(norms, stale + rule.constant(stale.mean(), lambda: stale))
    values = {name: term.value - true_gradient_squared for name, term in terms.items()}
    left_out = 0.0 if population is None else max(1 - count / population, 0.0)
    slopes = {name: term.slopes for name, term in terms.items()}
    slopes["excess"] = slopes["actual"] - slopes["uniform"]
    return GradientVariances(
        ideal=values["ideal"],
        stale=values["stale"],
        uniform=values["uniform"],
        actual=values["actual"],
        smoothed={rule: values[rule] for rule in rules},
        excess=values["actual"] - values["uniform"],
        true_gradient_squared=true_gradient_squared,
        standard_errors={name: _error(slope, left_out) for name, slope in slopes.items()},
    )


class _Terms:
    """The first term of a gradient variance, A B with A = mean(omega), B = mean(|g|^2 / omega).

    Attributes:
        value: A B.
        slopes: (n,) the first-order contribution of each example to the error of A B, if the means
            are over a sample: B (omega_n - A) + A (|g_n|^2 / omega_n - B). 0 if A B is infinite.
    """

    def __init__(self, norms: Array, weights: Array) -> None:
        # In units of the mean, A is 1, and squares don't overflow before they need to.
        mean = weights.mean()
        weights = weights / mean if mean > 0 else np.ones_like(norms)
        ratios = np.zeros_like(norms)
        with np.errstate(divide="ignore"):
            np.divide(norms**2, weights, out=ratios, where=norms > 0)
        self.value = float(ratios.mean())
        self.slopes = np.zeros_like(norms)
        if np.isfinite(self.value):
            self.slopes = self.value * (weights - 1) + ratios - self.value


def _error(slopes: Array, left_out: float) -> float:
    if left_out == 0 or len(slopes) < 2:
        return 0.0
    return float(slopes.std(ddof=1) * np.sqrt(left_out / len(slopes)))


def _checked(name: str, given: ArrayLike, count: int | None = None) -> Array:
    values = checks.real_numbers(name, given)
    if values.ndim != 1 or not values.size or count not in (None, len(values)):
        shape = "(n,), n at least 1" if count is None else f"({count},), as the norms"
        raise checks.invalid(name, f"of shape {shape}", values.shape)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise checks.invalid(
            name,
            "finite and at least 0",
            f"{np.isnan(values).sum()} NaN, {np.isinf(values).sum()} infinite and "
            f"{(values < 0).sum()} negative values",
            "Exclude examples that haven't been measured.",
        )
    return values


def _checked_squared(value: float) -> float:
    number = checks.finite_number("`true_gradient_squared`", value)
    if number < 0:
        raise checks.invalid("`true_gradient_squared`", "a squared norm, at least 0", number)
    return number


def true_gradient_bound(batch_gradient_norms_squared: ArrayLike) -> float:
    """Returns the upper bound of 7.A.4: mean |g_batch|^2 >= |mean g_batch|^2, by Jensen.

    Subtracting it from the first term of a gradient variance gives a lower bound; subtracting 0
    gives an upper bound.

    Args:
        batch_gradient_norms_squared: (n,) squared norms of mean gradients of minibatches that
            together are unbiased: passes over the data, or scaled draws.
    """
    return float(_checked("`batch_gradient_norms_squared`", batch_gradient_norms_squared).mean())


class FallBack:
    """Decides from successive gradient variances whether draws should be uniform.

    Draws become uniform when the actual variance is above that of uniform draws by more than
    chance. They are by gradient norms again when it is below by more than chance or, without
    standard errors, no longer above.

    Args:
        errors: the number of standard errors beyond which a difference counts as more than chance.

    Attributes:
        uniform: whether draws should be uniform, after the last `update`.
        reason: a sentence for a log that says why; None before the first `update`.
    """

    def __init__(self, *, errors: float = 2.0) -> None:
        if not errors >= 0:
            raise checks.invalid("`errors`", "at least 0", errors)
        self._errors = errors
        self.uniform = False
        self.reason: str | None = None

    def update(self, variances: GradientVariances) -> bool:
        """Updates the decision; returns whether draws should be uniform."""
        margin = self._errors * variances.standard_errors["excess"]
        rounding = _ROUNDING * variances.uniform
        if self.uniform:
            self.uniform = not variances.excess <= -margin
        else:
            self.uniform = not variances.excess <= margin + rounding
        self.reason = (
            f"{'uniform draws' if self.uniform else 'draws by gradient norms'}: the gradient"
            f" variance is {variances.actual:.4g} by gradient norms and {variances.uniform:.4g}"
            f" uniformly, a difference of {variances.excess:.3g} with a standard error of"
            f" {variances.standard_errors['excess']:.2g}"
        )
        return self.uniform
