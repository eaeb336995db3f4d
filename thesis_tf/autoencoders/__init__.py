"""Auto-encoders as models of the density of their data (thesis, chapter 3).

`thesis_tf.autoencoders.theory` has exact solutions in one dimension and local moments.
"""

from thesis_tf.autoencoders.criteria import (
    ContractiveLoss,
    DenoisingLoss,
    ReconstructionContractiveLoss,
)
from thesis_tf.autoencoders.density.attractors import Attractors, far_points, find_attractors
from thesis_tf.autoencoders.density.data_region import DataRegion, OutsideDataWarning
from thesis_tf.autoencoders.density.derivatives.hessian import LogDensityHessian
from thesis_tf.autoencoders.density.derivatives.tangents import Tangents
from thesis_tf.autoencoders.density.kernel_density import KernelDensity
from thesis_tf.autoencoders.density.sampling import langevin, metropolis_hastings
from thesis_tf.autoencoders.density.score import ScoreEstimator
from thesis_tf.autoencoders.density.score_field import ScoreField, score_field
from thesis_tf.autoencoders.density.transition_kernels import Langevin, RandomWalk
from thesis_tf.autoencoders.density.two_sample import TwoSampleTest, nearest_neighbor_test
from thesis_tf.autoencoders.fitting.criterion_model import CriterionModel
from thesis_tf.autoencoders.fitting.full_batch import Fit, fit_full_batch
from thesis_tf.autoencoders.fitting.initialization import RandomFeatures, initialize_from_data
from thesis_tf.autoencoders.noise_schedules import (
    CorruptedBatch,
    DecreasingNoise,
    NoiseSchedule,
    SampledNoise,
)
from thesis_tf.autoencoders.plots import (
    draw_attractors,
    draw_points,
    draw_score_field,
    draw_spectrum,
)

__all__ = [
    "Attractors",
    "ContractiveLoss",
    "CorruptedBatch",
    "CriterionModel",
    "DataRegion",
    "DecreasingNoise",
    "DenoisingLoss",
    "Fit",
    "KernelDensity",
    "Langevin",
    "LogDensityHessian",
    "NoiseSchedule",
    "OutsideDataWarning",
    "RandomFeatures",
    "RandomWalk",
    "ReconstructionContractiveLoss",
    "SampledNoise",
    "ScoreEstimator",
    "ScoreField",
    "Tangents",
    "TwoSampleTest",
    "draw_attractors",
    "draw_points",
    "draw_score_field",
    "draw_spectrum",
    "far_points",
    "find_attractors",
    "fit_full_batch",
    "initialize_from_data",
    "langevin",
    "metropolis_hastings",
    "nearest_neighbor_test",
    "score_field",
]
