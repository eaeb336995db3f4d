"""Generative stochastic networks (thesis, chapter 5).

`thesis_tf.gsn.finite` has the theory on enumerated spaces; `thesis_tf.mcmc` runs the chains.
"""

from thesis_tf.gsn.auto_encoder import WalkbackAutoEncoder
from thesis_tf.gsn.deep_gsn import GSN
from thesis_tf.gsn.dependency import DependencyKernel, DependencyNetwork
from thesis_tf.gsn.export import export
from thesis_tf.gsn.inpainting import Inpainting
from thesis_tf.gsn.kernel import NetworkKernel, State
from thesis_tf.gsn.likelihood.base import LikelihoodEstimate
from thesis_tf.gsn.likelihood.conservative import (
    ConservativeEstimate,
    conservative_log_likelihood,
)
from thesis_tf.gsn.likelihood.parzen import ParzenEstimate, parzen_log_likelihood
from thesis_tf.gsn.network import (
    SALT_AND_PEPPER,
    GenerativeStochasticNetwork,
)
from thesis_tf.gsn.plots import (
    draw_chain_images,
    draw_histograms,
    draw_inpainting,
    draw_scaling,
)
from thesis_tf.gsn.reconstruction import Bernoulli, Normal, NormalMixture, Reconstruction
from thesis_tf.gsn.sample_quality import SampleQuality, sample_quality
from thesis_tf.gsn.walkback import Walkback

__all__ = [
    "GSN",
    "SALT_AND_PEPPER",
    "Bernoulli",
    "ConservativeEstimate",
    "DependencyKernel",
    "DependencyNetwork",
    "GenerativeStochasticNetwork",
    "Inpainting",
    "LikelihoodEstimate",
    "NetworkKernel",
    "Normal",
    "NormalMixture",
    "ParzenEstimate",
    "Reconstruction",
    "SampleQuality",
    "State",
    "Walkback",
    "WalkbackAutoEncoder",
    "conservative_log_likelihood",
    "draw_chain_images",
    "draw_histograms",
    "draw_inpainting",
    "draw_scaling",
    "export",
    "parzen_log_likelihood",
    "sample_quality",
]
