"""Markov chains of any `tfp.mcmc.TransitionKernel`: thousands in parallel, clamped or not."""

from thesis_tf.mcmc.chains import Chains
from thesis_tf.mcmc.clamping import MaskClamp
from thesis_tf.mcmc.diagnostics import (
    Diagnostics,
    effective_sample_size,
    r_hat,
    random_projections,
)
from thesis_tf.mcmc.sampling import sample_chain, stream_seed
from thesis_tf.mcmc.transition_kernels import FunctionKernel, SimpleKernel

__all__ = [
    "Chains",
    "Diagnostics",
    "FunctionKernel",
    "MaskClamp",
    "SimpleKernel",
    "effective_sample_size",
    "r_hat",
    "random_projections",
    "sample_chain",
    "stream_seed",
]
