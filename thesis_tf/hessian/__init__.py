"""The Hessian of a loss: products, eigenvalues of both signs, line searches (thesis, ch. 11)."""

from thesis_tf.hessian.density import SpectralDensity, diagonal, spectral_density, trace
from thesis_tf.hessian.eigenpairs import Eigenpairs, extreme_eigenpairs
from thesis_tf.hessian.line_search import BestStep, LineSearch, best_step, line_search
from thesis_tf.hessian.operators import FallbackWarning, GaussNewtonOperator, HessianOperator
from thesis_tf.hessian.self_check import SelfCheckError
from thesis_tf.hessian.subset import compare_subset, fixed_subset

__all__ = [
    "BestStep",
    "Eigenpairs",
    "FallbackWarning",
    "GaussNewtonOperator",
    "HessianOperator",
    "LineSearch",
    "SelfCheckError",
    "SpectralDensity",
    "best_step",
    "compare_subset",
    "diagonal",
    "extreme_eigenpairs",
    "fixed_subset",
    "line_search",
    "spectral_density",
    "trace",
]
