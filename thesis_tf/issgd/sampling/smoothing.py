"""What is added to every weight before examples are drawn by it (thesis, 7.4.1 and 7.A.5).

A weight is a gradient norm measured a while ago, and the example may have come to matter since: the
smaller its weight, the larger its loss is scaled when it is drawn after all. Each rule here comes
down to one constant, added to all weights, that bounds that scale at (mean + constant) / constant.
"""

import dataclasses
import numbers

import numpy as np
import scipy.optimize
import scipy.special

from thesis_tf._core import checks

# A weight's exponent and the first 8 bits of its fraction, as an integer: 256 bins an octave.
_BIN = 52 - 8


def _not_negative(name, value):
    if not 0 <= value < np.inf:
        raise checks.invalid(name, "a finite number of at least 0", value)


@dataclasses.dataclass(frozen=True)
class Additive:
    """The same constant whatever the weights are, as in the thesis (7.4.1: 10 and 1).

    Norms shrink as training goes on, and the draws drift towards uniform ones.
    """

    amount: float

    def __post_init__(self):
        """Refuses parameters out of range."""
        _not_negative("`amount`", self.amount)

    def constant(self, mean, weights):
        """Returns what to add; the arguments are those of every rule.

        Args:
            mean: of the weights, a float.
            weights: a function without arguments that gives the weights, (N,) float64, none of
                them NaN. Only `TargetEntropy` calls it.
        """
        del mean, weights
        return self.amount

    def __str__(self):
        """A short name, for legends and logs."""
        return f"+{self.amount:g}"


@dataclasses.dataclass(frozen=True)
class RelativeToMean:
    """The mean weight times a factor: no example's loss is scaled by more than (1 + f) / f."""

    factor: float

    def __post_init__(self):
        """Refuses parameters out of range."""
        _not_negative("`factor`", self.factor)

    def constant(self, mean, weights):
        """Returns what to add; see `Additive`."""
        del weights
        return self.factor * mean

    def __str__(self):
        """A short name, for legends and logs."""
        return f"+{self.factor:g} mean"


@dataclasses.dataclass(frozen=True)
class UniformMixture:
    """A share of the draws is uniform: q = (1 - share) omega / sum(omega) + share / N.

    That is omega + c with c = mean share / (1 - share), so the same as
    `RelativeToMean(share / (1 - share))`.
    """

    share: float

    def __post_init__(self):
        """Refuses parameters out of range."""
        if not 0 <= self.share < 1:
            raise checks.invalid(
                "`share`",
                "at least 0 and below 1",
                self.share,
                "For uniform draws alone set the proposal's `uniform`.",
            )

    def constant(self, mean, weights):
        """Returns what to add; see `Additive`."""
        del weights
        return mean * self.share / (1 - self.share)

    def __str__(self):
        """A short name, for legends and logs."""
        return f"{self.share:.3g} uniform"


@dataclasses.dataclass(frozen=True)
class TargetEntropy:
    """The least constant with which the draws have a given entropy (7.A.5).

    The target is a perplexity as a share of the examples, exp(H(q)) / N, which means the same for
    any N (a part of log N doesn't): .5 is the entropy of drawing uniformly from half of them.

    Weights that reach the target as they are get a constant of 0, which keeps one that is 0 from
    ever being drawn: where norms can be 0 and stale, a rule relative to the mean is safer. The
    entropy is that of weights rounded by at most a 512th, which is within 1e-6 of the exact one;
    600,000 of them take about 3 ms.
    """

    share: float

    def __post_init__(self):
        """Refuses parameters out of range."""
        if not 0 < self.share < 1:
            raise checks.invalid("`share`", "above 0 and below 1, exp(H) / N", self.share)

    def constant(self, mean, weights):
        """Returns what to add; see `Additive`."""
        if mean == 0:
            return 0.0
        ratios = weights() / mean + 0.0  # + 0.0: -0.0 would be the lowest bin by far
        bins = ratios.view(np.int64) >> _BIN
        bins -= bins.min()
        counts = np.bincount(bins)
        there = np.flatnonzero(counts)
        parts = counts[there] / len(ratios)
        ratios = np.bincount(bins, weights=ratios)[there] / counts[there]

        def excess(constant):
            # log N - H, the divergence from uniform, above what is allowed; it falls.
            smoothed = (ratios + constant) / (1 + constant)
            return parts @ scipy.special.xlogy(smoothed, smoothed) + np.log(self.share)

        if excess(0.0) <= 0:
            return 0.0
        # The divergence is at most the chi-square one, variance / (1 + constant)^2.
        enough = np.sqrt(parts @ np.square(ratios - 1) / -np.log(self.share))
        return mean * scipy.optimize.brentq(excess, 0.0, enough, rtol=1e-12)

    def __str__(self):
        """A short name, for legends and logs."""
        return f"perplexity {self.share:g} N"


# Whichever of uniform draws and fresh norms is the better one, half of each at most doubles its
# E||g||^2, whatever became of the norms since; and no loss is scaled by more than 2.
DEFAULT = RelativeToMean(1.0)


def as_smoothing(value):
    """Returns a rule as it is, and a number c as `Additive(c)`."""
    if hasattr(value, "constant"):
        return value
    if isinstance(value, numbers.Real):
        return Additive(float(value))
    raise checks.invalid(
        "`smoothing`",
        "a number, or a rule such as RelativeToMean(0.5)",
        repr(value),
        kind=TypeError,
    )
