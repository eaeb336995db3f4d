"""How far Markov chains have mixed."""

import dataclasses
import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import checks

# What diagnostics look at: their autocorrelations take as much memory as 16 copies.
_DIAGNOSED_CHAINS, _DIAGNOSED_VALUES = 256, 1 << 22


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """How far chains have mixed.

    Attributes:
        effective_sample_size: (...), of each value of a state, over all chains.
        r_hat: (...), the potential scale reduction of each value; near 1 if chains agree.
        acceptance: (chains,), the part of each chain's proposals that was accepted; None of chains
            that accept all.
    """

    effective_sample_size: np.ndarray
    r_hat: np.ndarray
    acceptance: np.ndarray | None = None

    def summary(self):
        """Returns the worst of each as a dict of floats, None where nothing is known."""
        worst = {
            "effective_sample_size": float(np.min(self.effective_sample_size)),
            "r_hat": float(np.max(self.r_hat)),
        }
        if self.acceptance is not None:
            worst["acceptance"] = float(np.mean(self.acceptance))
        return {name: value if math.isfinite(value) else None for name, value in worst.items()}


def diagnose(samples, acceptance=None):
    """Returns the `Diagnostics` of chains.

    Args:
        samples: (steps, chains, ...) array; below 4 steps nothing is known, which is NaN.
        acceptance: (chains,), or None.
    """
    of_a_chain = max(1, samples.size // samples.shape[1])
    few = samples[:, : min(_DIAGNOSED_CHAINS, max(2, _DIAGNOSED_VALUES // of_a_chain))]
    shape = samples.shape[2:]
    if len(samples) < 4:
        nothing = np.full(shape, np.nan)
        return Diagnostics(nothing, nothing, acceptance)
    size = effective_sample_size(few) * (samples.shape[1] / few.shape[1])
    return Diagnostics(size, r_hat(few), acceptance)


def effective_sample_size(samples):
    """Returns how many independent draws all chains are worth, for each value of a state.

    What chains differ by counts against them, as in R-hat: chains that stay apart are worth about
    a draw each.

    Args:
        samples: (steps, chains, ...) array, of 4 steps at least.

    Returns:
        (...) array, by Geyer's initial positive sequence over all chains
        (`tfp.mcmc.effective_sample_size`), at least 1 and at most the number of samples; 1 where
        nothing moves.
    """
    samples = _checked(samples)
    if samples.shape[1] > 1:
        size = tfp.mcmc.effective_sample_size(
            samples, filter_beyond_positive_pairs=True, cross_chain_dims=1
        )
    else:
        size = tfp.mcmc.effective_sample_size(samples, filter_beyond_positive_pairs=True)[0]
    return np.clip(np.nan_to_num(size.numpy(), nan=1.0), 1.0, samples.shape[0] * samples.shape[1])


def r_hat(samples):
    """Returns the potential scale reduction of split chains, for each value of a state.

    Args:
        samples: (steps, chains, ...) array, of 4 steps at least.
    """
    samples = _checked(samples)
    samples = samples[: 2 * (len(samples) // 2)]
    return tfp.mcmc.potential_scale_reduction(
        samples, independent_chain_ndims=1, split_chains=True
    ).numpy()


def _checked(samples):
    samples = tf.convert_to_tensor(samples)
    if samples.shape.rank < 2 or samples.shape[0] < 4 or samples.shape[1] < 1:
        raise checks.invalid(
            "`samples`", "of shape (steps, chains, ...) with 4 steps at least", tuple(samples.shape)
        )
    if not tf.reduce_all(tf.math.is_finite(samples)):
        raise checks.invalid("`samples`", "finite", "NaN or infinity")
    return samples
