"""How far Markov chains have mixed."""

import dataclasses
import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# Chains that diagnostics look at: their autocorrelations take as much memory as 8 copies.
_DIAGNOSED_CHAINS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """How far chains have mixed.

    Attributes:
        effective_sample_size: (...), of each value of a state, over all chains.
        r_hat: (...), the potential scale reduction of each value; near 1 if chains agree.
        acceptance: (chains,), the part of each chain's proposals that was accepted.
    """

    effective_sample_size: np.ndarray
    r_hat: np.ndarray
    acceptance: np.ndarray

    def summary(self):
        """Returns the worst of each as a dict of floats, None where nothing is known."""
        worst = {
            "effective_sample_size": float(np.min(self.effective_sample_size)),
            "r_hat": float(np.max(self.r_hat)),
            "acceptance": float(np.mean(self.acceptance)),
        }
        return {name: value if math.isfinite(value) else None for name, value in worst.items()}


def diagnose(samples, acceptance):
    """Returns the `Diagnostics` of chains.

    Args:
        samples: (steps, chains, ...) array; below 4 steps nothing is known, which is NaN.
        acceptance: (chains,).
    """
    few = samples[:, :_DIAGNOSED_CHAINS]
    shape = samples.shape[2:]
    if len(samples) < 4:
        nothing = np.full(shape, np.nan)
        return Diagnostics(nothing, nothing, acceptance)
    size = effective_sample_size(few) * (samples.shape[1] / few.shape[1])
    return Diagnostics(size, r_hat(few), acceptance)


def effective_sample_size(samples):
    """Returns how many independent draws all chains are worth, for each value of a state.

    Args:
        samples: (steps, chains, ...) array.

    Returns:
        (...) array: the sum over chains of the effective sample sizes that Geyer's initial
        positive sequence gives them (`tfp.mcmc.effective_sample_size`). Each chain is worth a
        draw at least and one a step at most, also where it never moves or is too short to tell.
    """
    each = tfp.mcmc.effective_sample_size(
        tf.convert_to_tensor(samples), filter_beyond_positive_pairs=True
    )
    return np.clip(np.nan_to_num(each.numpy(), nan=1.0), 1.0, len(samples)).sum(axis=0)


def r_hat(samples):
    """Returns the potential scale reduction of split chains, for each value of a state.

    Args:
        samples: (steps, chains, ...) array, of 4 steps at least.
    """
    samples = tf.convert_to_tensor(samples)
    samples = samples[: 2 * (len(samples) // 2)]
    return tfp.mcmc.potential_scale_reduction(
        samples, independent_chain_ndims=1, split_chains=True
    ).numpy()
