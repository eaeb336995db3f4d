"""Walkback training on enumerated spaces (thesis, 5.3.2 and Proposition 1).

Walkback corrupts an example x in k rounds: x -> x~ by C(x~ | x), then k - 1 times x~ -> x by the
current reconstruction and x -> x~ by C again. P(x | x~) is trained to reconstruct the example from
the last x~, or from the x~ of every round. Shapes are the same as in
`thesis_tf.gsn.finite.denoising`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import (
    ChainCheck,
    checked_problem,
    checked_reconstruction,
    posterior,
)
from thesis_tf.reporting.tables import Cell

# Geometric probabilities are cut off at this tail, which is less than the rounding of their sum.
_TAIL = 1e-17


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WalkbackCheck(ChainCheck):
    """The result of walkback training; `transition` uses the original corruption.

    Attributes:
        reconstruction: (m, n), P(x | x~) after training.
        corruption: (n, m), the walkback corruption with this reconstruction.
        converged: whether training reached a fixed point.
        iterations: the number of updates of the reconstruction.
    """

    reconstruction: np.ndarray
    corruption: np.ndarray
    converged: bool
    iterations: int

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        headings, rows = super()._table()
        return headings, [*rows, ("iterations", self.iterations)]

    def summary(self) -> dict[str, Any]:
        """Returns also whether training converged, and its iterations."""
        training = {"converged": self.converged, "iterations": self.iterations}
        return {**super().summary(), **training}


def geometric_probabilities(stop: float) -> Array:
    """Returns P(k) = stop (1 - stop)^(k - 1) of Algorithm 1, (K,), cut off at a tail of 1e-17.

    Args:
        stop: the probability to stop after each round, in (0, 1]; 0.5 in the thesis.
    """
    stop = checks.probability("`stop`", stop)
    rounds = 1 if stop == 1 else max(1, math.ceil(math.log(_TAIL) / math.log1p(-stop)))
    probabilities = stop * (1 - stop) ** np.arange(rounds)
    return probabilities / probabilities.sum()


def round_frequencies(probabilities: ArrayLike) -> Array:
    """Returns the frequency of each round if training uses the x~ of all rounds, not only the last.

    The frequency of round j is P(k >= j), normalized. Geometric probabilities stay the same.

    Args:
        probabilities: (K,), P(k) for k = 1 ... K.

    Returns:
        (K,) float64.
    """
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, shape=(None,))
    tails = np.cumsum(probabilities[::-1])[::-1]
    return tails / tails.sum()


def walkback_corruption(
    corruption: ArrayLike, reconstruction: ArrayLike, probabilities: ArrayLike
) -> Array:
    """Returns the distribution of x~ after k rounds, sum_k P(k) T^(k - 1) C with T = C P.

    Args:
        corruption: (n, m), C(x~ | x).
        reconstruction: (m, n), P(x | x~).
        probabilities: (K,), P(k) for k = 1 ... K, such as `Walkback.probabilities()`,
            `geometric_probabilities(stop)` or `round_frequencies(probabilities)`.

    Returns:
        (n, m) float64.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape.
    """
    corruption = markov.checked_stochastic("`corruption`", corruption)
    reconstruction = checked_reconstruction(reconstruction, corruption)
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, shape=(None,))
    return _corrupted(corruption, corruption @ reconstruction, probabilities)


def walkback_chain(
    data: ArrayLike,
    corruption: ArrayLike,
    probabilities: ArrayLike,
    *,
    reconstruction: ArrayLike | None = None,
    max_iterations: int = 10000,
    tol: float = 1e-14,
) -> WalkbackCheck:
    """Trains by walkback up to a fixed point and checks Proposition 1 there.

    Training alternates two exact updates: the walkback corruption C~ is computed with the current
    reconstruction P, and the next P is the posterior under C~. At a fixed point the data satisfy
    P(x) = sum_x0 P(x0) (sum_k P(k) T^k)(x | x0) with T = C P, as for any denoising auto-encoder,
    here one with corruption C~. The stationary distribution of T satisfies this equation too. If
    only one distribution satisfies it, the chain that samples with the original corruption C has
    the data's distribution as its stationary distribution, as Proposition 1 says.

    The thesis refers to Corollary 1 for this uniqueness. The solution is unique if T has a unique
    stationary distribution and P(k = 1) is positive. A counterexample with k = 2 only is a T that
    swaps two states: its square leaves every distribution unchanged.

    Once the chain of T preserves the data's distribution, each further update preserves it too. The
    posterior under C, the default initial reconstruction, has this property. The next T is then
    T* T^r(k - 1), averaged over k, where T* is the T of plain denoising and T^r is the reverse
    chain of T. Updates then only change how far a step moves, up to independence (T = 1 P(x)),
    which is the only such fixed point if P(k = 1) = 0.

    Args:
        data: (n,), P(x), the expected stationary distribution.
        corruption: (n, m), the original C(x~ | x).
        probabilities: (K,), as for `walkback_corruption`.
        reconstruction: (m, n), the initial reconstruction; None for the posterior under C.
        max_iterations: the maximum number of updates of the reconstruction.
        tol: training has converged when no probability changes by more than this.

    Returns:
        `WalkbackCheck` with the conditions "converged" (training reached a fixed point) and
        "unique" (the mixture of T^k has a single stationary distribution).

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape, or the
            chain T has several recurrent classes.
    """
    data, corruption = checked_problem(data, corruption)
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, shape=(None,))
    if reconstruction is None:
        reconstruction = posterior(data, corruption)
    reconstruction = checked_reconstruction(reconstruction, corruption)
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    tol = checks.positive_number("`tol`", tol)
    for turn in range(1, max_iterations + 1):  # noqa: B007
        corrupted = _corrupted(corruption, corruption @ reconstruction, probabilities)
        before, reconstruction = reconstruction, posterior(data, corrupted)
        converged = bool(np.abs(reconstruction - before).max() <= tol)
        if converged:
            break
    transition = corruption @ reconstruction
    corrupted = _corrupted(corruption, transition, probabilities)
    classes = markov.ergodicity(corrupted @ reconstruction).recurrent_classes
    return WalkbackCheck(
        transition=transition,
        expected=data,
        stationary=markov.stationary_distribution(transition),
        conditions={"converged": converged, "unique": len(classes) == 1},
        reconstruction=reconstruction,
        corruption=corrupted,
        converged=converged,
        iterations=turn,
    )


def _corrupted(corruption: Array, transition: Array, probabilities: Array) -> Array:
    # Horner's rule: one product with T per round.
    total = probabilities[-1] * corruption
    for probability in probabilities[-2::-1]:
        total = probability * corruption + transition @ total
    return total
