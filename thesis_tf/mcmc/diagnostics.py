"""Diagnostics of the mixing of Markov chains."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# The most chains and values for which diagnostics are computed, since autocorrelations need 16
# times their memory.
_DIAGNOSED_CHAINS, _DIAGNOSED_VALUES = 256, 1 << 22
_PROJECTIONS = 16


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnostics(TabularResult):
    """Diagnostics of the mixing of chains.

    Attributes:
        effective_sample_size: (...), for each value of a state, over all chains.
        r_hat: (...), the potential scale reduction of each value; near 1 if chains agree.
        acceptance: (chains,), the fraction of each chain's proposals that was accepted; None for
            kernels without proposals.
    """

    effective_sample_size: Array
    r_hat: Array
    _: dataclasses.KW_ONLY
    acceptance: Array | None = None

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        rows = [
            ("effective sample size", np.min, self.effective_sample_size),
            ("R-hat", np.max, self.r_hat),
            ("acceptance", np.min, self.acceptance),
        ]
        return ("diagnostic", "worst", "median"), [
            (name, _known(worst(values)), _known(np.median(values)))
            for name, worst, values in rows
            if values is not None
        ]

    def summary(self) -> dict[str, float | None]:
        """Returns the smallest effective sample size, the largest R-hat and the mean acceptance.

        The result is a plain dict; unknown values are None.
        """
        worst = {
            "effective_sample_size": float(np.min(self.effective_sample_size)),
            "r_hat": float(np.max(self.r_hat)),
        }
        if self.acceptance is not None:
            worst["acceptance"] = float(np.mean(self.acceptance))
        return {name: _known(value) for name, value in worst.items()}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def random_projections(samples: Array) -> Array:
    """Returns summary statistics of samples (results, chains, ...): (results, chains, k), float64.

    They are the mean of the values and 16 random projections of them, in units of one value's
    standard deviation if values are independent; or the values, if there are at most 16.
    """
    flat = samples.reshape(*samples.shape[:2], -1)
    size = flat.shape[-1]
    if size <= _PROJECTIONS:
        return flat.astype(np.float64)
    directions = np.random.default_rng(0).standard_normal((size, _PROJECTIONS)) / size**0.5
    directions = np.column_stack([np.full(size, 1 / size), directions]).astype(flat.dtype)
    return (flat @ directions).astype(np.float64)


def diagnose(samples: Array, *, acceptance: Array | None = None) -> Diagnostics:
    """Returns the `Diagnostics` of chains.

    Args:
        samples: (results, chains, ...) array; with fewer than 4 results they are NaN.
        acceptance: (chains,), or None.
    """
    of_a_chain = max(1, samples.size // samples.shape[1])
    few = samples[:, : min(_DIAGNOSED_CHAINS, max(2, _DIAGNOSED_VALUES // of_a_chain))]
    shape = samples.shape[2:]
    if len(samples) < 4:
        nothing = np.full(shape, np.nan)
        return Diagnostics(nothing, nothing, acceptance=acceptance)
    size = effective_sample_size(few) * (samples.shape[1] / few.shape[1])
    return Diagnostics(size, r_hat(few), acceptance=acceptance)


def effective_sample_size(samples: ArrayLike) -> Array:
    """Returns the number of independent draws equivalent to all chains, for each value of a state.

    Differences between chains reduce it, and increase R-hat: if chains stay in different regions,
    each is equivalent to about one draw.

    Args:
        samples: (results, chains, ...) array with at least 4 results.

    Returns:
        (...) array, by Geyer's initial positive sequence over all chains
        (`tfp.mcmc.effective_sample_size`), at least 1 and at most the number of samples; 1 for
        constant values.
    """
    states = _checked(samples)
    if states.shape[1] > 1:
        size = tfp.mcmc.effective_sample_size(
            states, filter_beyond_positive_pairs=True, cross_chain_dims=1
        )
    else:
        size = tfp.mcmc.effective_sample_size(states, filter_beyond_positive_pairs=True)[0]
    return np.clip(np.nan_to_num(size.numpy(), nan=1.0), 1.0, states.shape[0] * states.shape[1])


def r_hat(samples: ArrayLike) -> Array:
    """Returns the potential scale reduction of split chains, for each value of a state.

    Args:
        samples: (results, chains, ...) array with at least 4 results.
    """
    states = _checked(samples)
    even = states[: 2 * (len(states) // 2)]
    return tfp.mcmc.potential_scale_reduction(
        even, independent_chain_ndims=1, split_chains=True
    ).numpy()


def _checked(samples: ArrayLike) -> tf.Tensor:
    states = tf.convert_to_tensor(samples)
    if states.shape.rank < 2 or states.shape[0] < 4 or states.shape[1] < 1:
        expected = "of shape (results, chains, ...) with at least 4 results"
        raise checks.invalid("`samples`", expected, tuple(states.shape))
    if not tf.reduce_all(tf.math.is_finite(states)):
        raise checks.invalid("`samples`", "finite", "NaN or infinity")
    return states
