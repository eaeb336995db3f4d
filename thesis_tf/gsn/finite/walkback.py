"""Walkback training on enumerated spaces (thesis, 5.3.2 and Proposition 1).

Walkback corrupts an example x in k rounds: x -> x~ by C(x~ | x), then k - 1 times x~ -> x by the
present reconstruction and x -> x~ by C again. P(x | x~) is trained to bring the last x~ back to the
x that it came from, or the x~ of each round. Shapes are those of `finite_gsn`.
"""

import dataclasses
import math

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

# Of k beyond which geometric probabilities are left out: less than a rounding of their sum.
_TAIL = 1e-17


@dataclasses.dataclass(frozen=True, eq=False)
class WalkbackCheck(ChainCheck):
    """What walkback training arrives at; `transition` is of the original corruption.

    Attributes:
        reconstruction: (m, n), P(x | x~) after training.
        corruption: (n, m), that of walkback with this reconstruction.
        converged: whether training arrived at a fixed point.
        iterations: how often the reconstruction was replaced.
    """

    reconstruction: np.ndarray
    corruption: np.ndarray
    converged: bool
    iterations: int


def geometric_probabilities(stop: float) -> Array:
    """Returns P(k) = stop (1 - stop)^(k - 1) of Algorithm 1, (K,), for all k but a tail of 1e-17.

    Args:
        stop: the probability to stop after each round, in (0, 1]; .5 in the thesis.
    """
    stop = checks.probability("`stop`", stop)
    rounds = 1 if stop == 1 else max(1, math.ceil(math.log(_TAIL) / math.log1p(-stop)))
    probabilities = stop * (1 - stop) ** np.arange(rounds)
    return probabilities / probabilities.sum()


def round_frequencies(probabilities: ArrayLike) -> Array:
    """Returns how often each round occurs if the x~ of all rounds are trained on, not the last's.

    That is P(k >= j) over its sum; of geometric probabilities, the same again.

    Args:
        probabilities: (K,), P(k) for k = 1 ... K.

    Returns:
        (K,) float64.
    """
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, (None,))
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
        TypeError, ValueError: no probabilities of these shapes.
    """
    corruption = markov.checked_stochastic("`corruption`", corruption)
    reconstruction = checked_reconstruction(reconstruction, corruption)
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, (None,))
    return _corrupted(corruption, corruption @ reconstruction, probabilities)


def walkback_chain(
    data: ArrayLike,
    corruption: ArrayLike,
    probabilities: ArrayLike,
    reconstruction: ArrayLike | None = None,
    *,
    iterations: int = 10000,
    tolerance: float = 1e-14,
) -> WalkbackCheck:
    """Trains by walkback until nothing changes, and checks Proposition 1 there.

    Training is exact and takes turns: the reconstruction P gives the walkback corruption C~, and
    the posterior under C~ is the next P. At a fixed point the data satisfy P(x) = sum_x0 P(x0)
    (sum_k P(k) T^k)(x | x0) with T = C P, as for any denoising auto-encoder, here of corruption C~.
    The stationary distribution of T satisfies it too; if only one distribution does, the chain that
    samples with the original corruption C has that of the data, as Proposition 1 says.

    The thesis leaves "only one" to Corollary 1. It is one if T has one and walkback sometimes takes
    a single round; with k = 2 alone, a T that swaps two states has a square that keeps everything.

    Once the chain of T keeps the data's distribution, each further turn keeps it too, as with the
    posterior under C to begin with: the next T is T* T^r(k - 1), averaged over k, where T* is that
    of plain denoising and T^r is the reverse chain of T. What the turns change is how far a step
    goes, up to independence (T = 1 P(x)), the only such fixed point if k is never 1.

    Args:
        data: (n,), P(x), which is what is expected.
        corruption: (n, m), the original C(x~ | x).
        probabilities: (K,), as for `walkback_corruption`.
        reconstruction: (m, n), what training begins with; None for the posterior under C.
        iterations: the most turns that are taken.
        tolerance: the most that a probability changes by in the last turn.

    Returns:
        `WalkbackCheck` with the conditions "converged" (to a fixed point) and "unique": only one
        distribution is kept by the mixture of T^k.

    Raises:
        TypeError, ValueError: no probabilities of these shapes, or a chain T with several recurrent
            classes.
    """
    data, corruption = checked_problem(data, corruption)
    probabilities = markov.checked_stochastic("`probabilities`", probabilities, (None,))
    if reconstruction is None:
        reconstruction = posterior(data, corruption)
    reconstruction = checked_reconstruction(reconstruction, corruption)
    iterations = checks.positive_integer("`iterations`", iterations)
    tolerance = checks.positive_number("`tolerance`", tolerance)
    for turn in range(1, iterations + 1):  # noqa: B007
        corrupted = _corrupted(corruption, corruption @ reconstruction, probabilities)
        before, reconstruction = reconstruction, posterior(data, corrupted)
        converged = bool(np.abs(reconstruction - before).max() <= tolerance)
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
    # Horner's rule: a product with T for each round.
    total = probabilities[-1] * corruption
    for probability in probabilities[-2::-1]:
        total = probability * corruption + transition @ total
    return total
