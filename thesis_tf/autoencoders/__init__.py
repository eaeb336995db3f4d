"""Auto-encoders as models of the density of their data (thesis, chapter 3)."""

from thesis_tf._diagnostics import Diagnostics, effective_sample_size, r_hat
from thesis_tf._image_sheet import draw_images
from thesis_tf.autoencoders.attractors import Attractors, far_starts, find_attractors
from thesis_tf.autoencoders.criteria import (
    ContractiveLoss,
    DenoisingLoss,
    ReconstructionContractiveLoss,
)
from thesis_tf.autoencoders.curvature import LogDensityHessian
from thesis_tf.autoencoders.exact_1d import (
    ThreeWells,
    dae_1d,
    dae_loss_1d,
    dae_score_1d,
    rcae_1d,
    rcae_loss_1d,
    rcae_score_1d,
    relative_rmse,
)
from thesis_tf.autoencoders.fitting import Fit, fit_full_batch
from thesis_tf.autoencoders.initialisation import RandomFeatures, initialise_from_data
from thesis_tf.autoencoders.kernel_density import KernelDensity
from thesis_tf.autoencoders.local_moments import (
    LocalMoments,
    asymptotic_moments,
    ball_integral,
    ball_quadrature,
    ball_volume,
    local_mean,
    local_moments,
)
from thesis_tf.autoencoders.noise import DecreasingNoise, SampledNoise
from thesis_tf.autoencoders.pictures import (
    draw_attractors,
    draw_exact_1d,
    draw_points,
    draw_score_field,
    draw_spectrum,
)
from thesis_tf.autoencoders.region import DataRegion, OutsideDataWarning
from thesis_tf.autoencoders.sampling import Chains, langevin, metropolis_hastings
from thesis_tf.autoencoders.score import ScoreEstimator, Tangents
from thesis_tf.autoencoders.trainer import Trainer
from thesis_tf.autoencoders.two_sample import TwoSampleTest, nearest_neighbour_test

__all__ = [
    "Attractors",
    "Chains",
    "ContractiveLoss",
    "DataRegion",
    "DecreasingNoise",
    "DenoisingLoss",
    "Diagnostics",
    "Fit",
    "KernelDensity",
    "LocalMoments",
    "LogDensityHessian",
    "OutsideDataWarning",
    "RandomFeatures",
    "ReconstructionContractiveLoss",
    "SampledNoise",
    "ScoreEstimator",
    "Tangents",
    "ThreeWells",
    "Trainer",
    "TwoSampleTest",
    "asymptotic_moments",
    "ball_integral",
    "ball_quadrature",
    "ball_volume",
    "dae_1d",
    "dae_loss_1d",
    "dae_score_1d",
    "draw_attractors",
    "draw_exact_1d",
    "draw_images",
    "draw_points",
    "draw_score_field",
    "draw_spectrum",
    "effective_sample_size",
    "far_starts",
    "find_attractors",
    "fit_full_batch",
    "initialise_from_data",
    "langevin",
    "local_mean",
    "local_moments",
    "metropolis_hastings",
    "nearest_neighbour_test",
    "r_hat",
    "rcae_1d",
    "rcae_loss_1d",
    "rcae_score_1d",
    "relative_rmse",
]
