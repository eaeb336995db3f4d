"""Denoising auto-encoders on enumerated spaces, where everything is exact (thesis, 5.3.1).

x has n values and the corrupted x~ has m values. `corruption` is C(x~ | x), (n, m), and
`reconstruction` is P(x | x~), (m, n); rows sum to 1. One step of the chain, x -> x~ -> x', has the
transition matrix corruption @ reconstruction.

A conditional distribution is undefined where its condition has probability 0. For such a condition,
the functions of this module use the unconditional distribution of x, so that a chain that begins
outside the data's support returns to it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# Probabilities that differ by no more than this are considered equal up to rounding.
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ChainCheck(TabularResult):
    """A proposition about one chain: its expected and actual stationary distributions.

    Attributes:
        transition: the transition matrix over the chain's states.
        expected: (n,), the distribution of x according to the proposition.
        stationary: (n,), the distribution of x in the chain's stationary distribution.
        conditions: {name: bool}, whether each condition of the proposition holds; the function
            that returns the check documents them.
    """

    transition: np.ndarray
    expected: np.ndarray
    stationary: np.ndarray
    conditions: dict[str, bool]

    @property
    def distance(self) -> float:
        """|expected - stationary|_1, at most 2."""
        return float(np.abs(self.expected - self.stationary).sum())

    @property
    def applies(self) -> bool:
        """Whether all conditions hold, so that the distance is 0 up to rounding."""
        return all(self.conditions.values())

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        conditions = [(f"condition: {name}", bool(b)) for name, b in self.conditions.items()]
        return ("property", "value"), [*conditions, ("distance", self.distance)]

    def summary(self) -> dict[str, Any]:
        """Returns whether the proposition applies, and the distance, as a plain dict."""
        return {
            "applies": bool(self.applies),
            "distance": self.distance,
            "states": len(self.transition),
            "conditions": {name: bool(holds) for name, holds in self.conditions.items()},
        }


@dataclasses.dataclass(frozen=True, repr=False)
class Positivity(TabularResult):
    """Which corollaries of 5.3.1 show that a chain is ergodic.

    V is the set of values x with a positive probability in the data. Both corollaries require that
    the reconstruction of a corrupted x in V is always in V.

    Attributes:
        corollary_1: let V~ be the set of values x~ that can result from corrupting any x in V;
            whether each x in V can be corrupted to each x~ in V~, and each x~ in V~ can be
            reconstructed as each x in V.
        corollary_2: whether this holds locally: each x in V can be reconstructed from each x~ that
            it can be corrupted to, and V is connected by steps between an x and an x' that can be
            corrupted to the same x~.
        ergodicity: that of the whole chain. Each corollary implies that V is the only recurrent
            class and that the period is 1. Neither corollary is necessary for this.
    """

    corollary_1: bool
    corollary_2: bool
    ergodicity: markov.Ergodicity

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("property", "value"), [
            (name.replace("_", " "), value) for name, value in self.summary().items()
        ]

    def summary(self) -> dict[str, Any]:
        """Returns both corollaries and the properties of the whole chain as a plain dict."""
        return {
            "corollary_1": self.corollary_1,
            "corollary_2": self.corollary_2,
            **self.ergodicity.summary(),
        }


def posterior(data: ArrayLike, corruption: ArrayLike) -> Array:
    """Returns P(x | x~) by Bayes' rule, the optimal reconstruction (5.3.1).

    Args:
        data: (n,), P(x).
        corruption: (n, m), C(x~ | x).

    Returns:
        (m, n) float64; the row of an x~ that never occurs is P(x).

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape.
    """
    data, corruption = checked_problem(data, corruption)
    joint = corruption.T * data
    total = joint.sum(axis=1, keepdims=True)
    return np.divide(joint, total, out=np.tile(data, (len(joint), 1)), where=total > 0)


def counted_posterior(
    examples: ArrayLike, corrupted: ArrayLike, num_states: int, *, num_corrupted: int | None = None
) -> Array:
    """Returns P(x | x~) by counting, the table with the smallest log-loss on the pairs.

    Args:
        examples: (pairs,), integers x in [0, num_states).
        corrupted: (pairs,), integers x~ in [0, num_corrupted).
        num_states: n.
        num_corrupted: m; None for n.

    Returns:
        (m, n) float64; the row of an x~ that doesn't occur is the histogram of the examples.

    Raises:
        TypeError: the examples aren't integers.
        ValueError: the arrays are empty, differ in shape, or hold values out of range.
    """
    num_states = checks.positive_integer("`num_states`", num_states)
    if num_corrupted is None:
        num_corrupted = num_states
    num_corrupted = checks.positive_integer("`num_corrupted`", num_corrupted)
    examples = _checked_numbers("`examples`", examples, num_states)
    corrupted = _checked_numbers("`corrupted`", corrupted, num_corrupted)
    if examples.shape != corrupted.shape:
        raise checks.invalid(
            "`corrupted`", f"of shape {examples.shape}, as `examples`", f"{corrupted.shape}"
        )
    pairs = np.bincount(corrupted * num_states + examples, minlength=num_corrupted * num_states)
    counts = pairs.reshape(num_corrupted, num_states).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    histogram = np.tile(counts.sum(axis=0) / len(examples), (num_corrupted, 1))
    return np.divide(counts, total, out=histogram, where=total > 0)


def denoising_chain(
    data: ArrayLike, corruption: ArrayLike, *, reconstruction: ArrayLike | None = None
) -> ChainCheck:
    """Checks that the chain of a denoising auto-encoder samples the data (5.3.1).

    If the reconstruction is the posterior, P(x) T(x' | x) = P(x') T(x | x'), so the chain preserves
    P(x). For any other reconstruction, the result's `distance` is the L1 distance between P(x) and
    the chain's stationary distribution; `perturbation_bound` of the two transition matrices is an
    upper bound of it.

    Args:
        data: (n,), P(x), the expected stationary distribution.
        corruption: (n, m), C(x~ | x).
        reconstruction: (m, n), P(x | x~); None for the posterior.

    Returns:
        `ChainCheck` with the condition "posterior": the reconstruction is `posterior(data,
        corruption)` for every x~ that occurs.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape, or the
            chain has several recurrent classes, for instance because the corruption is too local
            for the gaps in the data.
    """
    data, corruption = checked_problem(data, corruption)
    exact = posterior(data, corruption)
    if reconstruction is None:
        reconstruction = exact
    reconstruction = checked_reconstruction(reconstruction, corruption)
    occurs = data @ corruption > 0
    same = np.allclose(reconstruction[occurs], exact[occurs], rtol=0, atol=TOLERANCE)
    transition = corruption @ reconstruction
    stationary = markov.stationary_distribution(transition)
    return ChainCheck(transition, data, stationary, {"posterior": same})


def positivity(
    data: ArrayLike, corruption: ArrayLike, *, reconstruction: ArrayLike | None = None
) -> Positivity:
    """Checks which of Corollaries 1 and 2 show that the chain is ergodic (5.3.1).

    Corollary 2 is generalized: where the thesis requires that x and x~ are within epsilon, this
    function requires that C(x~ | x) is positive. This needs no distance, and x~ need not be a value
    of x. Each x in V then has a positive probability to stay, so the chain is aperiodic.

    Args:
        data: (n,), P(x).
        corruption: (n, m), C(x~ | x).
        reconstruction: (m, n), P(x | x~); None for the posterior.

    Returns:
        `Positivity`.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape.
    """
    data, corruption = checked_problem(data, corruption)
    if reconstruction is None:
        reconstruction = posterior(data, corruption)
    reconstruction = checked_reconstruction(reconstruction, corruption)
    inside = data > 0
    occurs = corruption[inside].any(axis=0)
    away = corruption[np.ix_(inside, occurs)] > 0
    back = reconstruction[np.ix_(occurs, inside)].T > 0
    stays = not reconstruction[np.ix_(occurs, ~inside)].any()
    links = scipy.sparse.csr_array(away.astype(np.int64))
    parts, _ = scipy.sparse.csgraph.connected_components(links @ links.T, directed=False)
    return Positivity(
        corollary_1=bool(stays and away.all() and back.all()),
        corollary_2=bool(stays and back[away].all() and parts == 1),
        ergodicity=markov.ergodicity(corruption @ reconstruction),
    )


def checked_problem(data: ArrayLike, corruption: ArrayLike) -> tuple[Array, Array]:
    """Returns P(x) (n,) and C(x~ | x) (n, m) as float64, or raises TypeError or ValueError."""
    data = markov.checked_stochastic("`data`", data, shape=(None,))
    return data, markov.checked_stochastic("`corruption`", corruption, shape=(len(data), None))


def checked_reconstruction(reconstruction: ArrayLike, corruption: Array) -> Array:
    """Returns P(x | x~) (m, n) as float64, or raises TypeError or ValueError."""
    shape = corruption.shape[::-1]
    return markov.checked_stochastic("`reconstruction`", reconstruction, shape=shape)


def _checked_numbers(name: str, values: ArrayLike, most: int) -> Array:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise checks.invalid(name, "integers", values.dtype, kind=TypeError)
    if values.ndim != 1 or not len(values):
        raise checks.invalid(name, "of shape (pairs,)", f"shape {values.shape}")
    if values.min() < 0 or values.max() >= most:
        received = f"values in [{values.min()}, {values.max()}]"
        raise checks.invalid(name, f"integers in [0, {most})", received)
    return values.astype(np.int64)
