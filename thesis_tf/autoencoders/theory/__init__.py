"""Exact solutions in one dimension, and local moments (thesis, 3.3.3 and 3.D to 3.F)."""

from thesis_tf.autoencoders.theory.exact_1d import (
    ExactScores,
    ThreeWells,
    dae_1d,
    dae_loss_1d,
    dae_score_1d,
    exact_scores_1d,
    rcae_1d,
    rcae_loss_1d,
    rcae_score_1d,
    relative_rmse,
)
from thesis_tf.autoencoders.theory.moments import (
    LocalMoments,
    asymptotic_moments,
    ball_integral,
    ball_quadrature,
    ball_volume,
    local_mean,
    local_moments,
)
from thesis_tf.autoencoders.theory.plots import draw_exact_1d

__all__ = [
    "ExactScores",
    "LocalMoments",
    "ThreeWells",
    "asymptotic_moments",
    "ball_integral",
    "ball_quadrature",
    "ball_volume",
    "dae_1d",
    "dae_loss_1d",
    "dae_score_1d",
    "draw_exact_1d",
    "exact_scores_1d",
    "local_mean",
    "local_moments",
    "rcae_1d",
    "rcae_loss_1d",
    "rcae_score_1d",
    "relative_rmse",
]
