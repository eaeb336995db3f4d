"""Generative stochastic networks (thesis, chapter 5)."""

from thesis_tf.gsn.auto_encoder import WalkbackAutoEncoder
from thesis_tf.gsn.deep_gsn import GSN
from thesis_tf.gsn.dependency import DependencyKernel, DependencyNetwork
from thesis_tf.gsn.export import export
from thesis_tf.gsn.finite.clamping import ClampedCheck, clamped_chain
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
    resampling_kernel,
)
from thesis_tf.gsn.finite.latent import LatentCheck, kept_hidden, latent_chain, latent_transition
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
    geometric_shares,
    shares_of_every_round,
    walkback_chain,
    walkback_corruption,
)
from thesis_tf.gsn.likelihood.conservative import (
    ConservativeEstimate,
    conservative_log_likelihood,
)
from thesis_tf.gsn.likelihood.parzen import ParzenEstimate, parzen_log_likelihood
from thesis_tf.gsn.network import (
    SALT_AND_PEPPER,
    GenerativeStochasticNetwork,
    NetworkKernel,
    State,
)
from thesis_tf.gsn.plots import draw_chains, draw_histograms, draw_inpainting, draw_scaling
from thesis_tf.gsn.reconstruction import Bernoulli, Normal, NormalMixture, Reconstruction
from thesis_tf.gsn.sample_quality import SampleQuality, sample_quality
from thesis_tf.gsn.walkback import Walkback
from thesis_tf.plotting.images import draw_images

__all__ = [
    "GSN",
    "SALT_AND_PEPPER",
    "Bernoulli",
    "ChainCheck",
    "ClampedCheck",
    "ConservativeEstimate",
    "CountingResult",
    "DependencyKernel",
    "DependencyNetwork",
    "Ergodicity",
    "GenerativeStochasticNetwork",
    "LatentCheck",
    "NetworkKernel",
    "Normal",
    "NormalMixture",
    "ParzenEstimate",
    "PerturbationBound",
    "Positivity",
    "Reconstruction",
    "SampleQuality",
    "State",
    "Walkback",
    "WalkbackAutoEncoder",
    "WalkbackCheck",
    "clamped_chain",
    "conditional",
    "conservative_log_likelihood",
    "counted_posterior",
    "counting_chain",
    "denoising_chain",
    "dependency_network",
    "draw_chains",
    "draw_histograms",
    "draw_images",
    "draw_inpainting",
    "draw_scaling",
    "ergodicity",
    "export",
    "fundamental_matrix",
    "geometric_shares",
    "kept_hidden",
    "latent_chain",
    "latent_transition",
    "local_corruption",
    "occupation_covariance",
    "ordered_scan",
    "parzen_chain",
    "parzen_log_likelihood",
    "perturbation_bound",
    "positivity",
    "posterior",
    "random_scan",
    "resampling_kernel",
    "sample_quality",
    "shares_of_every_round",
    "stationary_distribution",
    "walkback_chain",
    "walkback_corruption",
]
