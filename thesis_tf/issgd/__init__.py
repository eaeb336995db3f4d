"""Importance sampling SGD, on one machine or with workers that search (thesis, chapter 7).

    from thesis_tf import issgd

    norms = issgd.per_example_gradient_norms(model, loss)
    sampling = issgd.ImportanceSampling(x, y, refresh_every=50)
    model.fit(sampling.dataset, shuffle=False, callbacks=[sampling])

`Master` and `Worker`, or `Peer`, share the work among processes that meet in a store.
"""

from thesis_tf.gradient_norms import GradientNorms, per_example_gradient_norms
from thesis_tf.issgd.callback import ImportanceSampling
from thesis_tf.issgd.plots import draw_traces, draw_training
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.stores import open_store
from thesis_tf.issgd.training.history import History
from thesis_tf.issgd.training.master import Master
from thesis_tf.issgd.training.peer import Peer
from thesis_tf.issgd.training.trainer import Trainer
from thesis_tf.issgd.training.worker import Worker

__all__ = [
    "GradientNorms",
    "History",
    "ImportanceSampling",
    "Master",
    "Peer",
    "Proposal",
    "Trainer",
    "Worker",
    "draw_traces",
    "draw_training",
    "open_store",
    "per_example_gradient_norms",
]
