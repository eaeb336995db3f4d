"""Auto-encoders as models of the density of their data (thesis, chapter 3)."""

from thesis_tf.autoencoders.criteria import (
    ContractiveLoss,
    DenoisingLoss,
    ReconstructionContractiveLoss,
)
from thesis_tf.autoencoders.density.attractors import Attractors, far_starts, find_attractors
from thesis_tf.autoencoders.density.data_region import DataRegion, OutsideDataWarning
from thesis_tf.autoencoders.density.hessian import LogDensityHessian
from thesis_tf.autoencoders.density.kernel_density import KernelDensity
from thesis_tf.autoencoders.density.kernels import Langevin, RandomWalk
from thesis_tf.autoencoders.density.sampling import langevin, metropolis_hastings
from thesis_tf.autoencoders.density.score import ScoreEstimator, Tangents
from thesis_tf.autoencoders.density.two_sample import TwoSampleTest, nearest_neighbour_test
from thesis_tf.autoencoders.fitting.full_batch import Fit, fit_full_batch
from thesis_tf.autoencoders.fitting.initialization import (
    RandomFeatures,
    initialise_from_data,
)
from thesis_tf.autoencoders.fitting.trainer import Trainer
from thesis_tf.autoencoders.noise import DecreasingNoise, SampledNoise
from thesis_tf.autoencoders.plots import (
    draw_attractors,
    draw_exact_1d,
    draw_points,
    draw_score_field,
    draw_spectrum,
)
from thesis_tf.autoencoders.theory.exact_1d import (
    ThreeWells,
    dae_1d,
    dae_loss_1d,
    dae_score_1d,
    rcae_1d,
    rcae_loss_1d,
    rcae_score_1d,
    relative_rmse,
)
from thesis_tf.autoencoders.theory.local_moments import (
    LocalMoments,
    asymptotic_moments,
    ball_integral,
    ball_quadrature,
    ball_volume,
    local_mean,
    local_moments,
)
from thesis_tf.plotting.images import draw_images

__all__ = [
    "Attractors",
    "ContractiveLoss",
    "DataRegion",
    "DecreasingNoise",
    "DenoisingLoss",
    "Fit",
    "KernelDensity",
    "Langevin",
    "LocalMoments",
    "LogDensityHessian",
    "OutsideDataWarning",
    "RandomFeatures",
    "RandomWalk",
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
    "far_starts",
    "find_attractors",
    "fit_full_batch",
    "initialise_from_data",
    "langevin",
    "local_mean",
    "local_moments",
    "metropolis_hastings",
    "nearest_neighbour_test",
    "rcae_1d",
    "rcae_loss_1d",
    "rcae_score_1d",
    "relative_rmse",
]
