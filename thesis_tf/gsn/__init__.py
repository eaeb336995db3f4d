"""Generative stochastic networks (thesis, chapter 5)."""

from thesis_tf._diagnostics import Diagnostics, effective_sample_size, r_hat
from thesis_tf.gsn.auto_encoder import WalkbackAutoEncoder
from thesis_tf.gsn.chains import Chains, sample_chain
from thesis_tf.gsn.clamping import MaskClamp
from thesis_tf.gsn.network import GenerativeStochasticNetwork, State, Transition
from thesis_tf.gsn.reconstruction import Bernoulli, Normal, NormalMixture, Reconstruction
from thesis_tf.gsn.walkback import Walkback

__all__ = [
    "Bernoulli",
    "Chains",
    "Diagnostics",
    "GenerativeStochasticNetwork",
    "MaskClamp",
    "Normal",
    "NormalMixture",
    "Reconstruction",
    "State",
    "Transition",
    "Walkback",
    "WalkbackAutoEncoder",
    "effective_sample_size",
    "r_hat",
    "sample_chain",
]
