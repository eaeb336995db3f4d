"""Importance sampling SGD, in one process or with workers or peers (chapter 7).

    from thesis_tf import issgd

    sampling = issgd.ImportanceSampling(x, y, refresh_every=50)
    model.fit(sampling.dataset, shuffle=False, callbacks=[sampling])

A `Trainer` with a `MasterSynchronizer` and `Worker`s, or with a `PeerSynchronizer`, divides the
work among processes that communicate through a store. Gradient norms are in
`thesis_tf.gradient_norms`, stores in `thesis_tf.issgd.stores`.
"""

from thesis_tf.issgd.callback import ImportanceSampling
from thesis_tf.issgd.plots import draw_gradient_variance, draw_training
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.smoothing import (
    Additive,
    RelativeToMean,
    Smoothing,
    TargetEntropy,
    UniformMixture,
)
from thesis_tf.issgd.sampling.tracker import ProposalTracker
from thesis_tf.issgd.sampling.variance import (
    GradientVariances,
    compare_draws,
    gradient_variance,
    true_gradient_bound,
)
from thesis_tf.issgd.training.history import History, Record
from thesis_tf.issgd.training.master import MasterSynchronizer
from thesis_tf.issgd.training.peer import PeerSynchronizer
from thesis_tf.issgd.training.synchronizer import Pulled, Synchronizer, TrainerParts
from thesis_tf.issgd.training.trainer import Trainer
from thesis_tf.issgd.training.worker import Worker

__all__ = [
    "Additive",
    "GradientVariances",
    "History",
    "ImportanceSampling",
    "MasterSynchronizer",
    "PeerSynchronizer",
    "Proposal",
    "ProposalTracker",
    "Pulled",
    "Record",
    "RelativeToMean",
    "Smoothing",
    "Synchronizer",
    "TargetEntropy",
    "Trainer",
    "TrainerParts",
    "UniformMixture",
    "Worker",
    "compare_draws",
    "draw_gradient_variance",
    "draw_training",
    "gradient_variance",
    "true_gradient_bound",
]
