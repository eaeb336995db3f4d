"""Markov chains on finitely many states: where they settle, and how far errors move that.

Matrices are row-stochastic: matrix[i, j] is the probability to go from state i to state j, and a
distribution is a row pi with pi K = pi. The thesis writes columns, K pi = pi; its K is the
transpose of the one here. All is float64 and dense: a thousand states take a second.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike

# By which a row's sum may differ from 1, times its length, and a distance may exceed its bound.
_ROW_TOLERANCE = 1e-9
_ROUNDING = 1e-12

# What an array must be: None stands for any size of an axis.
Shape: TypeAlias = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Ergodicity:
    """Which states of a chain it visits again and again, and in what rhythm.

    Attributes:
        irreducible: whether each state can be reached from each.
        period: the least common multiple of the recurrent classes' periods. With 1, the
            distribution after t steps settles for large t, wherever the chain begins.
        recurrent_classes: the sets of states that the chain can't leave and whose states can all
            be reached from one another: tuples of numbers, in order. Other states are transient.
    """

    irreducible: bool
    period: int
    recurrent_classes: tuple

    @property
    def ergodic(self) -> bool:
        """Whether the chain is irreducible and aperiodic."""
        return self.irreducible and self.period == 1

    @property
    def converges(self) -> bool:
        """Whether the chain settles to one distribution, from transient states too."""
        return len(self.recurrent_classes) == 1 and self.period == 1


@dataclasses.dataclass(frozen=True, eq=False)
class PerturbationBound:
    """How far the stationary distributions of two chains are apart, and could be at most.

    Attributes:
        stationary: (n,), pi of the first chain.
        other_stationary: (n,), pi~ of the second.
        change: ||K - K~||, the largest sum of a row's absolute values.
        bound: ||Z|| ||K - K~||, Theorem 4's.
        sharper_bound: tau(Z) ||K - K~||, where tau(Z) is half the largest L1 distance between two
            rows of Z; never above `bound`.
    """

    stationary: np.ndarray
    other_stationary: np.ndarray
    change: float
    bound: float
    sharper_bound: float

    @property
    def distance(self) -> float:
        """|pi - pi~|_1, at most 2."""
        return float(np.abs(self.stationary - self.other_stationary).sum())

    @property
    def holds(self) -> bool:
        """Whether the distance is within both bounds, but for rounding."""
        return self.distance <= min(self.bound, self.sharper_bound) + _ROUNDING


def stationary_distribution(matrix: ArrayLike) -> Array:
    """Returns the distribution pi that the chain keeps, pi K = pi.

    By elimination without subtractions (Grassmann, Taksar and Heyman, 1985): each pi_i is right to
    about n roundings of its own size, even where parts of the chain hardly ever meet. A periodic
    chain has one too, which the mean over time goes to; transient states have 0.

    Args:
        matrix: (n, n), row-stochastic.

    Returns:
        (n,) float64, of sum 1.

    Raises:
        TypeError: the matrix isn't of real numbers.
        ValueError: the matrix isn't stochastic, or the chain has several recurrent classes and so
            many stationary distributions, or moves between states with probabilities whose product
            float64 takes for 0.
    """
    matrix = checked_transitions("`matrix`", matrix)
    classes = ergodicity(matrix).recurrent_classes
    if len(classes) > 1:
        shown = ", ".join(_abridged(states) for states in classes[:4])
        raise checks.invalid(
            "The chain",
            "one with a single recurrent class, or its stationary distribution isn't unique",
            f"{len(classes)} classes: {shown}{', ...' if len(classes) > 4 else ''}",
            "Take the rows and columns of one class, or make moves between them possible.",
        )
    states = list(classes[0])
    pi = np.zeros(len(matrix))
    pi[states] = _eliminated(matrix[np.ix_(states, states)])
    return pi


def ergodicity(matrix: ArrayLike) -> Ergodicity:
    """Returns the `Ergodicity` of a chain; every probability above 0 counts as a possible move.

    Args:
        matrix: (n, n), row-stochastic.

    Raises:
        TypeError, ValueError: the matrix isn't stochastic.
    """
    matrix = checked_transitions("`matrix`", matrix)
    graph = scipy.sparse.csr_array(matrix > 0)
    count, label = scipy.sparse.csgraph.connected_components(graph, connection="strong")
    source, target = graph.nonzero()
    left = set(label[source][label[source] != label[target]].tolist())
    classes = [np.flatnonzero(label == number) for number in set(range(count)) - left]
    classes.sort(key=lambda states: states[0])
    period = np.lcm.reduce([_period(graph, states, source, target) for states in classes])
    recurrent = tuple(tuple(states.tolist()) for states in classes)
    return Ergodicity(count == 1, int(period), recurrent)


def fundamental_matrix(matrix: ArrayLike) -> Array:
    """Returns Z = (I - K + 1 pi)^-1, (n, n), with rows pi in 1 pi.

    Z = I + sum_t (K^t - 1 pi) wherever that sum converges. Arguments and errors are those of
    `stationary_distribution`.
    """
    matrix = checked_transitions("`matrix`", matrix)
    return _fundamental(matrix, stationary_distribution(matrix))


def perturbation_bound(matrix: ArrayLike, other: ArrayLike) -> PerturbationBound:
    """Bounds how far wrong transitions move the stationary distribution (Theorem 4).

        |pi - pi~|_1 <= ||Z|| ||K - K~||,    Z = (I - K + 1 pi)^-1

    where ||.|| is the largest sum of a row's absolute values (Schweitzer 1968): pi~ - pi is
    pi~ (K~ - K) Z, and a row vector's L1 norm grows by no more than ||.|| in a product. The thesis
    writes ||.||_inf. Of its matrices, the transposes of these, that has to be read as the largest
    sum of a column; with sums of their rows the theorem fails, by a factor that grows with n.

    As pi~ (K~ - K) sums to 0, half the largest L1 distance between two rows of Z does in place of
    ||Z|| (Seneta 1988), which is the sharper bound. Neither chain has to be irreducible, as the
    thesis asks: one recurrent class each is enough.

    Args:
        matrix: K, (n, n), row-stochastic; Z is taken of it.
        other: K~, (n, n).

    Returns:
        `PerturbationBound`.

    Raises:
        TypeError, ValueError: what `stationary_distribution` raises, or the two differ in shape.
    """
    matrix = checked_transitions("`matrix`", matrix)
    other = checked_transitions("`other`", other)
    if other.shape != matrix.shape:
        raise checks.invalid("`other`", f"of shape {matrix.shape}, as `matrix`", other.shape)
    pi, other_pi = stationary_distribution(matrix), stationary_distribution(other)
    z, change = _fundamental(matrix, pi), _norm(matrix - other)
    # A row at a time: all pairs at once would take n times the memory.
    spread = max(float(np.abs(z - row).sum(axis=1).max()) for row in z) / 2
    return PerturbationBound(pi, other_pi, change, _norm(z) * change, spread * change)


def occupation_covariance(matrix: ArrayLike, num_steps: int) -> Array:
    """Returns the covariance of the fractions of time that a chain spends in each state.

    The chain is taken to begin in its stationary distribution. With M = K - 1 pi, the covariance of
    states l steps apart is diag(pi) M^l, and (N - l) M^l summed over l = 1 ... N - 1 is
    M Z ((N - 1) I - M (I - M^(N-1)) Z); for large N the result is that of Kemeny and Snell, pi_i
    Z_ij + pi_j Z_ji - pi_i [i = j] - pi_i pi_j, over N.

    Args:
        matrix: (n, n), row-stochastic.
        num_steps: N, the number of consecutive states that are counted.

    Returns:
        (n, n) float64, of the fractions around `stationary_distribution(matrix)`. Its diagonal is
        of squared standard errors, in which the chain's autocorrelation counts.

    Raises:
        TypeError, ValueError: what `stationary_distribution` raises, or no number of steps.
    """
    matrix = checked_transitions("`matrix`", matrix)
    num_steps = checks.positive_integer("`num_steps`", num_steps)
    pi = stationary_distribution(matrix)
    z, identity, centred = _fundamental(matrix, pi), np.eye(len(pi)), matrix - pi
    rest = centred @ (identity - np.linalg.matrix_power(centred, num_steps - 1)) @ z
    later = pi[:, np.newaxis] * (centred @ z @ ((num_steps - 1) * identity - rest))
    at_once = num_steps * (np.diag(pi) - np.outer(pi, pi))
    return (at_once + later + later.T) / num_steps**2


def checked_transitions(name: str, matrix: ArrayLike) -> Array:
    """Returns a transition matrix (n, n) as float64; raises TypeError or ValueError otherwise."""
    matrix = checked_stochastic(name, matrix)
    if matrix.shape[0] != matrix.shape[1]:
        raise checks.invalid(name, "square, (n, n)", f"shape {matrix.shape}")
    return matrix


def checked_stochastic(name: str, table: ArrayLike, shape: Shape | None = None) -> Array:
    """Returns conditional probabilities as float64, of which the last axis sums to 1.

    Args:
        name: the argument as the caller wrote it.
        table: an array.
        shape: what it must be, with None for any size of an axis; by default (any, any).

    Raises:
        TypeError: not of real numbers.
        ValueError: another shape, or values that are no probabilities.
    """
    table, shape = np.asarray(table), (None, None) if shape is None else shape
    fits = table.ndim == len(shape) and table.size > 0
    if not (fits and all(n in (None, m) for n, m in zip(shape, table.shape, strict=True))):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise checks.invalid(name, f"of shape ({wanted})", f"shape {table.shape}")
    if table.dtype.kind not in "buif":
        raise checks.invalid(name, "an array of real numbers", table.dtype, kind=TypeError)
    table = table.astype(np.float64)
    wrong = table[~(np.isfinite(table) & (table >= 0))]
    if len(wrong):
        raise checks.invalid(name, "finite probabilities of at least 0", f"{wrong[0]:g}")
    sums = table.sum(axis=-1)
    if np.abs(sums - 1).max() > _ROW_TOLERANCE * table.shape[-1]:
        place = np.unravel_index(np.abs(sums - 1).argmax(), sums.shape)
        row = f"row {', '.join(map(str, place))}, whose sum is" if place else "a sum of"
        raise checks.invalid(
            name,
            "of rows that sum to 1" if place else "of sum 1",
            f"{row} {sums[place]:.12g}",
            "Divide by the sums; transpose what has columns that sum to 1.",
        )
    return table


def _eliminated(matrix: Array) -> Array:
    """Returns the stationary distribution of an irreducible chain."""
    rates = matrix.copy()
    for last in range(len(rates) - 1, 0, -1):
        # The chain watched only while it is in states before the last: a detour to the last ends
        # where its row leads. What stays (the diagonal) is never used, so nothing is subtracted.
        leaving = rates[last, :last].sum()
        if leaving == 0:
            raise checks.invalid(
                "The chain",
                "of moves whose probabilities float64 can tell from 0",
                f"a way out of state {last} of its recurrent class of less than 1e-308",
            )
        rates[:last, last] /= leaving
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    pi = np.ones(len(rates))
    for state in range(1, len(rates)):
        pi[state] = pi[:state] @ rates[:state, state]
    return pi / pi.sum()


def _period(graph: scipy.sparse.csr_array, states: Array, source: Array, target: Array) -> int:
    """Returns the greatest common divisor of the lengths of all ways back in a recurrent class."""
    depth = scipy.sparse.csgraph.shortest_path(graph, unweighted=True, indices=int(states[0]))
    inside = np.isin(source, states)
    source, target = source[inside], target[inside]
    return int(np.gcd.reduce((depth[source] + 1 - depth[target]).astype(np.int64)))


def _fundamental(matrix: Array, pi: Array) -> Array:
    return np.linalg.inv(np.eye(len(pi)) - matrix + pi)


def _norm(matrix: Array) -> float:
    return float(np.abs(matrix).sum(axis=1).max())


def _abridged(states: Sequence[int]) -> str:
    shown = ", ".join(map(str, states[:6]))
    return f"[{shown}{', ...' if len(states) > 6 else ''}]"
