"""How far apart gradients of single draws are under a proposal (thesis, 7.3 and 7.A.4).

Draw an example n with a probability q_n in proportion to omega_n, and scale its gradient g_n by
mean(omega) / omega_n: the result has the covariance Sigma(q), whose trace is (Eq. 7.6-7.9)

    Tr Sigma(q) = mean_n(omega_n) mean_n(|g_n|^2 / omega_n) - |mean_n g_n|^2.

It is least for omega = |g| (Corollary 2), where the first term is mean(|g|)^2; uniform draws give
mean(|g|^2); omega from old parameters lies between them or, when too old, above both. Minibatches
of m have a trace m times smaller.
"""

import dataclasses

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.sampling.smoothing import as_smoothing

# Equal weights and uniform draws give the same trace but for rounding, which is no reason to log.
_ROUNDING = 1e-9


def trace(norms, weights, true_gradient_squared=0.0):
    """Tr Sigma(q) of draws in proportion to weights.

    Args:
        norms: (N,) |g_n| at the present parameters: norms, not their squares.
        weights: (N,) of at least 0; all 0 stand for uniform draws, as in `Proposal`.
        true_gradient_squared: |mean_n g_n|^2. With 0 the value is the upper bound of 7.A.4; all
            proposals share the term, so it doesn't matter to which of them is better.

    Returns:
        A float; infinite if an example with a gradient has a weight of 0.
    """
    norms = _checked("`norms`", norms)
    return _Terms(norms, _checked("`weights`", weights, len(norms))).value - true_gradient_squared


@dataclasses.dataclass(frozen=True)
class Traces:
    """Traces of several proposals on the same gradients.

    Attributes:
        ideal: of weights that are the present norms, the least there is.
        stale: of the weights from older parameters, as they are.
        uniform: of uniform draws.
        actual: of the weights that draws are made by.
        smoothed: {rule: trace}, of the older weights with each smoothing.
        excess: actual - uniform.
        standard_errors: {name of an attribute above, or rule: float}; all 0 where the traces were
            taken over the whole set. That of `excess` is far less than that of its two terms,
            which are of the same examples.
    """

    ideal: float
    stale: float
    uniform: float
    actual: float
    smoothed: dict
    excess: float
    standard_errors: dict

    def sqrt(self):
        """Square roots by name, {str: float}, which is what figure 7.4 shows.

        The program behind that figure took the root of norms that were rooted already for its
        stale weights: its curve for them is that of omega = |g|^(1/2), and can't be compared.

        A trace below 0, as a sample and a bound on the true gradient can give, is shown as 0.
        """
        named = {name: getattr(self, name) for name in ("ideal", "stale", "uniform", "actual")}
        named |= {f"stale {rule}": value for rule, value in self.smoothed.items()}
        return {name: float(np.sqrt(max(value, 0.0))) for name, value in named.items()}


def compare(
    norms,
    stale_weights,
    proposal_weights=None,
    smoothings=(10.0, 1.0),
    true_gradient_squared=0.0,
    *,
    population=None,
):
    """Takes the traces of ideal, stale, uniform and actual draws (figure 7.4).

    The examples are all there are, or a part whose norms were just measured anew, so that the
    weights that it was drawn by are at hand too. The part's means then stand for the whole's.

    Args:
        norms: (n,) |g| at the present parameters.
        stale_weights: (n,) what was measured before.
        proposal_weights: (n,) what draws were in proportion to, as of
            `Proposal.effective_weights`; None for the stale weights.
        smoothings: rules or numbers, to be applied to the stale weights; the thesis' by default.
        true_gradient_squared: |g_true|^2, or a bound on it; see `trace`.
        population: where the examples are a random part, how many there are in all. Standard
            errors are those of a part drawn without replacement, example by example: where blocks
            are measured and the order of the data means something, they are too small.

    Returns:
        `Traces`.
    """
    norms = _checked("`norms`", norms)
    count = len(norms)
    stale = _checked("`stale_weights`", stale_weights, count)
    actual = stale
    if proposal_weights is not None:
        actual = _checked("`proposal_weights`", proposal_weights, count)
    rules = [as_smoothing(value) for value in smoothings]
    terms = {
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
    return Traces(
        **{name: values[name] for name in ("ideal", "stale", "uniform", "actual")},
        smoothed={rule: values[rule] for rule in rules},
        excess=values["actual"] - values["uniform"],
        standard_errors={name: _error(slope, left_out) for name, slope in slopes.items()},
    )


class _Terms:
    """The first term of a trace, A B with A = mean(omega) and B = mean(|g|^2 / omega).

    Attributes:
        value: A B.
        slopes: (n,) what each example adds to the error of A B when the means are over a sample, to
            first order: B (omega_n - A) + A (|g_n|^2 / omega_n - B). Zero where A B is infinite.
    """

    def __init__(self, norms, weights):
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


def _error(slopes, left_out):
    if left_out == 0 or len(slopes) < 2:
        return 0.0
    return float(slopes.std(ddof=1) * np.sqrt(left_out / len(slopes)))


def _checked(name, values, count=None):
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or count not in (None, len(values)):
        shape = "(n,), n at least 1" if count is None else f"({count},), as the norms"
        raise checks.invalid(name, f"of shape {shape}", values.shape)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise checks.invalid(
            name,
            "finite and at least 0",
            f"{np.isnan(values).sum()} NaN, {np.isinf(values).sum()} infinite and "
            f"{(values < 0).sum()} negative values",
            "Leave out examples that haven't been measured.",
        )
    return values


def true_gradient_bound(batch_gradient_norms_squared):
    """The upper bound of 7.A.4: mean of |g_batch|^2 >= |mean of g_batch|^2, by Jensen's inequality.

    Taken off a trace's first term, it gives a lower bound of the trace, as 0 gives an upper one.

    Args:
        batch_gradient_norms_squared: (n,) squared norms of mean gradients of minibatches that
            together are unbiased: passes over the data, or scaled draws.

    Returns:
        A float.
    """
    return float(_checked("`batch_gradient_norms_squared`", batch_gradient_norms_squared).mean())


class FallBack:
    """Decides from successive traces whether draws by weights are worth it.

    Draws become uniform when the actual proposal's trace is above that of uniform draws by more
    than chance, and are made by weights again when it is as clearly below or, without standard
    errors, no longer above.

    Args:
        errors: how many standard errors of the difference count as more than chance.

    Attributes:
        uniform: whether draws should be uniform, as of the last `update`.
        reason: a sentence for a log that says why; None before the first `update`.
    """

    def __init__(self, errors=2.0):
        if not errors >= 0:
            raise checks.invalid("`errors`", "at least 0", errors)
        self._errors = errors
        self.uniform = False
        self.reason = None

    def update(self, traces):
        """Takes in `Traces`; returns whether draws should be uniform."""
        margin = self._errors * traces.standard_errors["excess"]
        rounding = _ROUNDING * traces.uniform
        if self.uniform:
            self.uniform = not traces.excess <= -margin
        else:
            self.uniform = not traces.excess <= margin + rounding
        self.reason = (
            f"{'uniform draws' if self.uniform else 'draws by weights'}: their trace is "
            f"{traces.actual:.4g} by weights and {traces.uniform:.4g} uniformly, a difference of "
            f"{traces.excess:.3g} with a standard error of {traces.standard_errors['excess']:.2g}"
        )
        return self.uniform
