"""The theory of chapter 5 on enumerated spaces, where chains are matrices and results exact."""

from thesis_tf.gsn.finite.clamping import (
    ClampedCheck,
    clamped_chain,
)
from thesis_tf.gsn.finite.counting import (
    CountingResult,
    counting_chain,
    local_corruption,
    parzen_chain,
)
from thesis_tf.gsn.finite.denoising import (
    ChainCheck,
    Positivity,
    counted_posterior,
    denoising_chain,
    positivity,
    posterior,
)
from thesis_tf.gsn.finite.dependency import (
    conditional,
    dependency_network,
    ordered_scan,
    random_scan,
    resampling_matrix,
)
from thesis_tf.gsn.finite.latent import (
    LatentCheck,
    kept_hidden,
    latent_chain,
    latent_transition,
)
from thesis_tf.gsn.finite.markov import (
    Ergodicity,
    PerturbationBound,
    ergodicity,
    fundamental_matrix,
    occupation_covariance,
    perturbation_bound,
    stationary_distribution,
)
from thesis_tf.gsn.finite.walkback import (
    WalkbackCheck,
    geometric_probabilities,
    round_frequencies,
    walkback_chain,
    walkback_corruption,
)

__all__ = [
    "ChainCheck",
    "ClampedCheck",
    "CountingResult",
    "Ergodicity",
    "LatentCheck",
    "PerturbationBound",
    "Positivity",
    "WalkbackCheck",
    "clamped_chain",
    "conditional",
    "counted_posterior",
    "counting_chain",
    "denoising_chain",
    "dependency_network",
    "ergodicity",
    "fundamental_matrix",
    "geometric_probabilities",
    "kept_hidden",
    "latent_chain",
    "latent_transition",
    "local_corruption",
    "occupation_covariance",
    "ordered_scan",
    "parzen_chain",
    "perturbation_bound",
    "positivity",
    "posterior",
    "random_scan",
    "resampling_matrix",
    "round_frequencies",
    "stationary_distribution",
    "walkback_chain",
    "walkback_corruption",
]
