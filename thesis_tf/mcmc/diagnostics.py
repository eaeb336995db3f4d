"""Diagnostics of the mixing of Markov chains."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# The most chains and values for which diagnostics are computed, since autocorrelations need 16
# times their memory.
_DIAGNOSED_CHAINS, _DIAGNOSED_VALUES = 256, 1 << 22
_PROJECTIONS = 16
_ROWS = 1 << 22  # the number of values that are projected at once
_MOST_R_HAT = 1.1  # above it, chains count as not mixed


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnostics(TabularResult):
    """Diagnostics of the mixing of chains.

    Chains that never move while others do are left out of the first two and counted. Values that
    are the same in all states of all chains say nothing about mixing; they are NaN, and left out of
    `table` and `summary`. A value that every chain keeps, but each another one, has an infinite
    R-hat.

    Attributes:
        effective_sample_size: (...), for each value of a state, over all chains.
        r_hat: (...), the potential scale reduction of each value; near 1 if chains agree.
        acceptance: (chains,), the fraction of each chain's proposals that was accepted; None for
            kernels without proposals.
        stuck_chains: the number of chains that never moved while others did; all of them if all
            states of all chains are the same.
    """

    effective_sample_size: Array
    r_hat: Array
    _: dataclasses.KW_ONLY
    acceptance: Array | None = None
    stuck_chains: int = 0

    @property
    def constant_values(self) -> int:
        """The number of values without an R-hat, among others that have one."""
        return int(np.isnan(self.r_hat).sum()) if not np.isnan(self.r_hat).all() else 0

    def warnings(self) -> list[str]:
        """Returns sentences on why the samples can't be trusted; none if they mix."""
        found = []
        worst = _worst(np.max, self.r_hat)
        if worst > _MOST_R_HAT:
            found.append(f"The chains have not mixed: R-hat {worst:.4g} (near 1 if they had).")
        if self.acceptance is not None and not np.any(self.acceptance):
            found.append("No proposal was accepted.")
        elif self.stuck_chains:
            noun = "chain has" if self.stuck_chains == 1 else "chains have"
            found.append(f"{self.stuck_chains:,} {noun} never moved.")
        return found

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        rows = [
            ("effective sample size", np.min, self.effective_sample_size),
            ("R-hat", np.max, self.r_hat),
            ("acceptance", np.min, self.acceptance),
        ]
        return ("diagnostic", "worst", "median"), [
            (name, _shown(_worst(worst, values)), _shown(_worst(np.median, values)))
            for name, worst, values in rows
            if values is not None
        ]

    def summary(self) -> dict[str, float | None]:
        """Returns the smallest effective sample size, the largest R-hat and the mean acceptance.

        The result is a plain dict; unknown values are None, and an infinite R-hat is infinity.
        `constant_values` and `stuck_chains` count what was left out, if anything was.
        """
        worst: dict[str, float | None] = {
            "effective_sample_size": _shown(_worst(np.min, self.effective_sample_size)),
            "r_hat": _shown(_worst(np.max, self.r_hat)),
        }
        if self.acceptance is not None:
            worst["acceptance"] = _shown(float(np.mean(self.acceptance)))
        counts = {"constant_values": self.constant_values, "stuck_chains": self.stuck_chains}
        return worst | {name: count for name, count in counts.items() if count}


def _worst(function: Callable[[Array], Any], values: Array) -> float:
    """Returns a statistic of the values that are known; NaN if none is."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(function(known)) if known.size else math.nan


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value


def random_projections(samples: Array) -> Array:
    """Returns summary statistics of samples (results, chains, ...): (results, chains, k), float64.

    They are the mean of the values and 16 random projections of them, in units of one value's
    standard deviation if values are independent; or the values, if there are at most 16.
    """
    samples = np.asarray(samples)
    flat = samples.reshape(*samples.shape[:2], math.prod(samples.shape[2:]))
    size = flat.shape[-1]
    if size <= _PROJECTIONS:
        return flat.astype(np.float64)
    directions = np.random.default_rng(0).standard_normal((size, _PROJECTIONS)) / size**0.5
    directions = np.column_stack([np.full(size, 1 / size), directions])
    # In float64, since a projection of values far from zero has few of float32's digits left.
    rows = max(1, _ROWS // max(1, flat[0].size))
    parts = [flat[i : i + rows].astype(np.float64) @ directions for i in range(0, len(flat), rows)]
    return np.concatenate(parts)


def diagnose(samples: Array, *, acceptance: Array | None = None) -> Diagnostics:
    """Returns the `Diagnostics` of chains.

    Args:
        samples: (results, chains, ...) array; with fewer than 4 results they are NaN. Of many
            chains, 256 at even distances are diagnosed, fewer if states are large.
        acceptance: (chains,), or None.
    """
    shape = samples.shape[2:]
    if len(samples) < 4:
        nothing = np.full(shape, np.nan)
        return Diagnostics(nothing, nothing, acceptance=acceptance)
    if (samples == samples[:1, :1]).all():
        nothing = np.full(shape, np.nan)
        return Diagnostics(nothing, nothing, acceptance=acceptance, stuck_chains=samples.shape[1])
    stuck = stuck_chains(samples)
    moving = samples[:, ~stuck] if stuck.any() else samples
    of_a_chain = max(1, moving.size // moving.shape[1])
    count = min(moving.shape[1], _DIAGNOSED_CHAINS, max(2, _DIAGNOSED_VALUES // of_a_chain))
    # Not the first, since chains may be in the order of their initial points.
    few = moving[:, np.linspace(0, moving.shape[1] - 1, count).astype(int)]
    size = effective_sample_size(few) * (moving.shape[1] / few.shape[1])
    return Diagnostics(size, r_hat(few), acceptance=acceptance, stuck_chains=int(stuck.sum()))


def stuck_chains(samples: ArrayLike) -> Array:
    """Returns which chains never move while another chain does, (chains,) of bool.

    Args:
        samples: (results, chains, ...) array with at least 4 results.
    """
    states = _checked(samples)
    still = (states == states[:1]).reshape(*states.shape[:2], -1).all(axis=(0, 2))
    return np.asarray(still & ~still.all())


def effective_sample_size(samples: ArrayLike) -> Array:
    """Returns the number of independent draws equivalent to all chains, for each value of a state.

    Differences between chains reduce it, and increase R-hat: if chains stay in different regions,
    each is equivalent to about one draw.

    Args:
        samples: (results, chains, ...) array of real numbers with at least 4 results; the
            computation is in float64.

    Returns:
        (...) array, by Geyer's initial positive sequence over all chains (as
        `tfp.mcmc.effective_sample_size`), at least 1 and at most the number of samples. As in the
        packages posterior and ArviZ, it is NaN for values that are the same in all states, and for
        all values if a chain never moves while others do (see `stuck_chains`); 1 for a value that
        every chain keeps, but each another one.
    """
    states = _centered(samples)
    length, chains = states.shape[:2]
    covariance = _autocovariance(states)  # (length, chains, ...)
    within = covariance.mean(axis=1)
    total = within[0] + (states.mean(axis=0).var(axis=0, ddof=1) if chains > 1 else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within[0] - within) / total
        weighted = correlation * _column((length - np.arange(length)) / length, correlation.ndim)
        positive = np.cumsum(_pairs(correlation) < 0, axis=0) == 0
        size = chains * length / (2 * (_pairs(weighted) * positive).sum(axis=0) - 1)
    size = np.clip(np.nan_to_num(size, nan=1.0), 1.0, length * chains)
    frozen = (states == states[:1]).all(axis=(0, 1))
    return _without_unknown(np.where(frozen, 1.0, size), states)


def r_hat(samples: ArrayLike) -> Array:
    """Returns the potential scale reduction of split chains, for each value of a state.

    It is the ratio of variances of `tfp.mcmc.potential_scale_reduction`, whose square root is the
    R-hat of Stan and ArviZ.

    Args:
        samples: (results, chains, ...) array of real numbers with at least 4 results; the
            computation is in float64.

    Returns:
        (...) array. It is infinite for a value that no half of a chain changes, but that differs
        between them, and NaN where `effective_sample_size` is.
    """
    states = _centered(samples)
    half = len(states) // 2
    halves = np.concatenate([states[:half], states[half : 2 * half]], axis=1)
    chains = halves.shape[1]
    frozen = (halves == halves[:1]).all(axis=(0, 1))
    within = np.where(frozen, 0.0, halves.var(axis=0, ddof=1).mean(axis=0))
    between = halves.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (half - 1) / half + between / within
        found = (chains + 1) / chains * ratio - (half - 1) / (chains * half)
    return _without_unknown(found, states)


def _without_unknown(values: Array, states: Array) -> Array:
    """Returns values (...) with NaN where states (results, chains, ...) don't determine them."""
    unknown = (states == states[:1, :1]).all(axis=(0, 1)) | stuck_chains(states).any()
    return np.where(unknown, np.nan, values)


def _autocovariance(states: Array) -> Array:
    """Returns the mean product of deviations for each lag, of the shape of `states`."""
    length = len(states)
    deviations = states - states.mean(axis=0)
    spectrum = np.fft.rfft(deviations, 2 * length, axis=0)
    products = np.fft.irfft(np.abs(spectrum) ** 2, 2 * length, axis=0)[:length]
    return np.asarray(products / _column(length - np.arange(length), products.ndim))


def _pairs(values: Array) -> Array:
    """Returns the sums of two consecutive values along the first axis; an odd one is left out."""
    even = values[: len(values) // 2 * 2]
    return np.asarray(even[::2] + even[1::2])


def _column(values: Array, rank: int) -> Array:
    return np.reshape(values, [-1] + [1] * (rank - 1))


def _centered(samples: ArrayLike) -> Array:
    """Returns samples in float64, in which the first state of the first chain is 0.

    Each value is in a unit, a power of two, in which its squares neither overflow nor vanish.
    """
    states = _checked(samples)
    states = states - states[:1, :1]
    _, exponents = np.frexp(np.abs(states).max(axis=(0, 1)))
    return np.asarray(np.ldexp(states, -exponents))


def _checked(samples: ArrayLike) -> Array:
    given = np.asarray(samples)
    if given.dtype.kind in "iu" and given.ndim >= 2 and given.size:
        # Relative to the first state: float64 rounds integers beyond 2^53, but not what differs.
        wide = int(given.max()) - int(given.min()) >= 1 << 63
        integers = given.astype(np.int64) - given[:1, :1].astype(np.int64)  # may wrap, twice
        states: Array = (given if wide else integers).astype(np.float64)
    else:
        states = checks.real_numbers("`samples`", given)
    if states.ndim < 2 or states.shape[0] < 4 or states.shape[1] < 1:
        expected = "of shape (results, chains, ...) with at least 4 results"
        raise checks.invalid("`samples`", expected, states.shape)
    if not np.isfinite(states).all():
        raise checks.invalid("`samples`", "finite", "NaN or infinity")
    return states
