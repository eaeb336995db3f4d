"""Denoising auto-encoders on enumerated spaces, where everything is exact (thesis, 5.3.1).

x has n values and the corrupted x~ has m. `corruption` is C(x~ | x), (n, m), and `reconstruction`
is P(x | x~), (m, n); rows sum to 1. One step of the chain, x -> x~ -> x', has the transition matrix
corruption @ reconstruction.

What is never given can't be conditioned on. Where a function here makes conditionals, their rows
for such values are the distribution of x without them, so that a chain that begins astray comes
back to the data.
"""

import dataclasses

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov

# How far probabilities may differ, by rounding, and still be taken for equal.
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class ChainCheck:
    """A proposition on one chain: where it should settle, where it does, and its conditions.

    Attributes:
        transition: the transition matrix over the chain's states.
        expected: (n,), the distribution of x that the proposition promises.
        stationary: (n,), that of x in the chain's stationary distribution.
        conditions: {name: bool}, what the proposition asks for; the function that made this says
            what they mean.
    """

    transition: np.ndarray
    expected: np.ndarray
    stationary: np.ndarray
    conditions: dict

    @property
    def distance(self) -> float:
        """|expected - stationary|_1, at most 2."""
        return float(np.abs(self.expected - self.stationary).sum())

    @property
    def applies(self) -> bool:
        """Whether all conditions hold, so that the distance is 0 but for rounding."""
        return all(self.conditions.values())


@dataclasses.dataclass(frozen=True)
class Positivity:
    """Which corollary of 5.3.1 makes a chain ergodic.

    V are the values x with a positive probability in the data. Either corollary asks that
    reconstructions of what V is corrupted to never leave V.

    Attributes:
        corollary_1: whether each x in V is corrupted to each x~ that any of V is, and may be the
            reconstruction of each.
        corollary_2: whether that holds locally: whatever x~ an x in V is corrupted to may be
            reconstructed as x again, and V is connected by steps from x to an x' that share an x~.
        ergodicity: of the whole chain. By either corollary, V is its only recurrent class and its
            period is 1; neither is necessary for that.
    """

    corollary_1: bool
    corollary_2: bool
    ergodicity: markov.Ergodicity


def posterior(data: ArrayLike, corruption: ArrayLike) -> Array:
    """Returns P(x | x~) by Bayes' rule, the best reconstruction there is (5.3.1).

    Args:
        data: (n,), P(x).
        corruption: (n, m), C(x~ | x).

    Returns:
        (m, n) float64; P(x) for an x~ that never occurs.

    Raises:
        TypeError, ValueError: no probabilities of these shapes.
    """
    data, corruption = checked_problem(data, corruption)
    joint = corruption.T * data
    total = joint.sum(axis=1, keepdims=True)
    return np.divide(joint, total, out=np.tile(data, (len(joint), 1)), where=total > 0)


def counted_posterior(
    examples: ArrayLike, corrupted: ArrayLike, num_states: int, num_corrupted: int | None = None
) -> Array:
    """Returns P(x | x~) by counting, the least log-loss on pairs of a table that is free.

    Args:
        examples: (pairs,), integers x in [0, num_states).
        corrupted: (pairs,), integers x~ in [0, num_corrupted).
        num_states: n.
        num_corrupted: m; None for n.

    Returns:
        (m, n) float64; the histogram of the examples for an x~ that doesn't occur.

    Raises:
        TypeError: not integers.
        ValueError: other shapes, no pairs, or numbers out of range.
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
    data: ArrayLike, corruption: ArrayLike, reconstruction: ArrayLike | None = None
) -> ChainCheck:
    """Checks that the chain of a denoising auto-encoder samples the data (5.3.1).

    With the posterior, P(x) T(x' | x) = P(x') T(x | x'), so the chain keeps P(x). How far it is
    from it with a reconstruction that isn't there yet is the result's `distance`, which
    `perturbation_bound` of the two transition matrices bounds.

    Args:
        data: (n,), P(x), which is what is expected.
        corruption: (n, m), C(x~ | x).
        reconstruction: (m, n), P(x | x~); None for the posterior.

    Returns:
        `ChainCheck` with the condition "posterior": the reconstruction is `posterior(data,
        corruption)` for every x~ that occurs.

    Raises:
        TypeError, ValueError: no probabilities of these shapes, or a chain with several recurrent
            classes, for instance by a corruption too local for the gaps in the data.
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
    data: ArrayLike, corruption: ArrayLike, reconstruction: ArrayLike | None = None
) -> Positivity:
    """Says which of Corollaries 1 and 2 makes the chain ergodic (5.3.1).

    Corollary 2 is the thesis' with "x and x~ are within epsilon" read as "C(x~ | x) is positive",
    which needs no distance and allows an x~ that is no x. Staying where one is has a positive
    probability then, which makes the chain aperiodic.

    Args:
        data: (n,), P(x).
        corruption: (n, m), C(x~ | x).
        reconstruction: (m, n), P(x | x~); None for the posterior.

    Returns:
        `Positivity`.

    Raises:
        TypeError, ValueError: no probabilities of these shapes.
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
    """Returns P(x) (n,) and C(x~ | x) (n, m) as float64; raises TypeError or ValueError."""
    data = markov.checked_stochastic("`data`", data, (None,))
    return data, markov.checked_stochastic("`corruption`", corruption, (len(data), None))


def checked_reconstruction(reconstruction: ArrayLike, corruption: Array) -> Array:
    """Returns P(x | x~) (m, n) as float64; raises TypeError or ValueError."""
    shape = corruption.shape[::-1]
    return markov.checked_stochastic("`reconstruction`", reconstruction, shape)


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
