"""The Hessian of a loss: products, eigenvalues of both signs, line searches (thesis, ch. 11)."""

from thesis_tf.hessian.callback import HessianMonitor
from thesis_tf.hessian.checks.self_check import SelfCheckError
from thesis_tf.hessian.data_subset import (
    SpectrumDifference,
    SubsetComparison,
    compare_subset,
    fixed_subset,
)
from thesis_tf.hessian.density import (
    Estimate,
    SpectralDensity,
    diagonal,
    spectral_density,
    trace,
)
from thesis_tf.hessian.eigen.eigenpairs import Eigenpairs, SearchOptions
from thesis_tf.hessian.eigen.lanczos import NotFiniteError
from thesis_tf.hessian.eigen.solvers import extreme_eigenpairs
from thesis_tf.hessian.history import SpectrumEntry, SpectrumHistory
from thesis_tf.hessian.line_search import BestStep, LineSearch, best_step, line_search
from thesis_tf.hessian.operators import GaussNewtonOperator, HessianOperator, OperatorOptions
from thesis_tf.hessian.optimizer import NegativeCurvature
from thesis_tf.hessian.plots import (
    draw_best_steps,
    draw_eigenvalues,
    draw_history,
    draw_line_searches,
)
from thesis_tf.hessian.products.fallback import FallbackWarning
from thesis_tf.hessian.tracker import SpectrumTracker, history_of_checkpoints, load_weights

__all__ = [
    "BestStep",
    "Eigenpairs",
    "Estimate",
    "FallbackWarning",
    "GaussNewtonOperator",
    "HessianMonitor",
    "HessianOperator",
    "LineSearch",
    "NegativeCurvature",
    "NotFiniteError",
    "OperatorOptions",
    "SearchOptions",
    "SelfCheckError",
    "SpectralDensity",
    "SpectrumDifference",
    "SpectrumEntry",
    "SpectrumHistory",
    "SpectrumTracker",
    "SubsetComparison",
    "best_step",
    "compare_subset",
    "diagonal",
    "draw_best_steps",
    "draw_eigenvalues",
    "draw_history",
    "draw_line_searches",
    "extreme_eigenpairs",
    "fixed_subset",
    "history_of_checkpoints",
    "line_search",
    "load_weights",
    "spectral_density",
    "trace",
]
