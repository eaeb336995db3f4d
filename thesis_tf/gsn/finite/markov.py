"""Markov chains with finitely many states: stationary distributions and their perturbation.

Matrices are row-stochastic: matrix[i, j] is the probability to go from state i to state j, and a
stationary distribution is a row vector pi with pi K = pi. The thesis uses column vectors, K pi =
pi, so its K is the transpose of this one. Computations are in float64 with dense matrices; a
thousand states take about a second.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# Tolerance of the sum of a row, per element, and of a distance that is compared with its bound.
_ROW_TOLERANCE = 1e-9
_ROUNDING = 1e-12

# The expected shape of an array; None matches any size of an axis.
Shape: TypeAlias = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Ergodicity(TabularResult):
    """The recurrent classes of a chain and their period.

    Attributes:
        irreducible: whether each state can be reached from each other state.
        period: the least common multiple of the periods of the recurrent classes. If it is 1, the
            distribution after t steps converges as t grows, from any initial state.
        recurrent_classes: the sets of states that the chain can't leave and whose states can all
            be reached from one another: sorted tuples of indices. All other states are transient.
    """

    irreducible: bool
    period: int
    recurrent_classes: tuple[tuple[int, ...], ...]

    @property
    def ergodic(self) -> bool:
        """Whether the chain is irreducible and aperiodic."""
        return self.irreducible and self.period == 1

    @property
    def converges(self) -> bool:
        """Whether the chain converges to one distribution from every initial state."""
        return len(self.recurrent_classes) == 1 and self.period == 1

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("property", "value"), [
            (name.replace("_", " "), value) for name, value in self.summary().items()
        ]

    def summary(self) -> dict[str, Any]:
        """Returns the properties and the number of recurrent classes as a plain dict."""
        return {
            "ergodic": self.ergodic,
            "converges": self.converges,
            "irreducible": self.irreducible,
            "period": self.period,
            "recurrent_classes": len(self.recurrent_classes),
        }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PerturbationBound(TabularResult):
    """The distance between the stationary distributions of two chains, with upper bounds.

    Attributes:
        stationary: (n,), pi of the first chain.
        other_stationary: (n,), pi~ of the second.
        change: ||K - K~||, the largest sum of a row's absolute values.
        bound: ||Z|| ||K - K~||, the bound of Theorem 4.
        sharper_bound: tau(Z) ||K - K~||, where tau(Z) is half the largest L1 distance between two
            rows of Z; at most `bound`.
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
        """Whether the distance is within both bounds, up to rounding."""
        return self.distance <= min(self.bound, self.sharper_bound) + _ROUNDING

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("property", "value"), [
            (name.replace("_", " "), value) for name, value in self.summary().items()
        ]

    def summary(self) -> dict[str, Any]:
        """Returns the distance, the change and both bounds as a plain dict."""
        return {
            "holds": self.holds,
            "distance": self.distance,
            "bound": self.bound,
            "sharper_bound": self.sharper_bound,
            "change": self.change,
        }


def stationary_distribution(matrix: ArrayLike) -> Array:
    """Returns the stationary distribution pi of the chain, pi K = pi.

    It is computed by elimination without subtractions (Grassmann, Taksar and Heyman, 1985). The
    relative error of each pi_i is about n rounding errors, even where moves between parts of the
    chain are very rare. For a periodic chain, pi is the limit of the average over time. Transient
    states have probability 0.

    Args:
        matrix: (n, n), row-stochastic.

    Returns:
        (n,) float64, which sums to 1.

    Raises:
        TypeError: the matrix doesn't hold real numbers.
        ValueError: the matrix isn't stochastic, the chain has several recurrent classes, so that
            its stationary distribution isn't unique, or probabilities are so small that their
            product underflows to 0 in float64.
    """
    matrix = checked_transitions("`matrix`", matrix)
    classes = ergodicity(matrix).recurrent_classes
    if len(classes) > 1:
        shown = ", ".join(_abridged(states) for states in classes[:4])
        raise checks.invalid(
            "The chain",
            "one with a single recurrent class, for a unique stationary distribution",
            f"{len(classes)} classes: {shown}{', ...' if len(classes) > 4 else ''}",
            "Use the rows and columns of one class, or make moves between the classes possible.",
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
    """Returns the fundamental matrix Z = (I - K + 1 pi)^-1, (n, n).

    Here 1 pi is the matrix whose rows are all pi. Z = I + sum_t (K^t - 1 pi) if this sum converges.
    The argument and the errors are the same as for `stationary_distribution`.
    """
    matrix = checked_transitions("`matrix`", matrix)
    return _fundamental(matrix, stationary_distribution(matrix))


def perturbation_bound(matrix: ArrayLike, other: ArrayLike) -> PerturbationBound:
    """Bounds the effect of an error in the transitions on the stationary distribution (Theorem 4).

        |pi - pi~|_1 <= ||Z|| ||K - K~||,    Z = (I - K + 1 pi)^-1

    where ||.|| is the largest sum of a row's absolute values (Schweitzer 1968). The bound holds
    because pi~ - pi = pi~ (K~ - K) Z, and a product with a matrix increases the L1 norm of a row
    vector at most by the factor ||.||. The thesis writes ||.||_inf. For its matrices, which are the
    transposes of the matrices here, this must mean the largest sum of a column; with sums of their
    rows the theorem fails, by a factor that grows with n.

    Since pi~ (K~ - K) sums to 0, ||Z|| can be replaced by half the largest L1 distance between two
    rows of Z (Seneta 1988); this is the sharper bound. The thesis requires irreducible chains, but
    it is sufficient that each chain has a single recurrent class.

    Args:
        matrix: K, (n, n), row-stochastic; Z is its fundamental matrix.
        other: K~, (n, n), row-stochastic.

    Returns:
        `PerturbationBound`.

    Raises:
        TypeError, ValueError: as for `stationary_distribution`, or the matrices differ in shape.
    """
    matrix = checked_transitions("`matrix`", matrix)
    other = checked_transitions("`other`", other)
    if other.shape != matrix.shape:
        raise checks.invalid("`other`", f"of shape {matrix.shape}, as `matrix`", other.shape)
    pi, other_pi = stationary_distribution(matrix), stationary_distribution(other)
    z, change = _fundamental(matrix, pi), _norm(matrix - other)
    # One row at a time: all pairs at once would need n times the memory.
    spread = max(float(np.abs(z - row).sum(axis=1).max()) for row in z) / 2
    return PerturbationBound(pi, other_pi, change, _norm(z) * change, spread * change)


def occupation_covariance(matrix: ArrayLike, num_steps: int) -> Array:
    """Returns the covariance of the fractions of time that a chain spends in each state.

    The chain is assumed to begin in its stationary distribution. With M = K - 1 pi, the covariance
    of states l steps apart is diag(pi) M^l, and the sum of (N - l) M^l over l = 1 ... N - 1 is
    M Z ((N - 1) I - M (I - M^(N-1)) Z). For large N the result approaches the formula of Kemeny and
    Snell, (pi_i Z_ij + pi_j Z_ji - pi_i [i = j] - pi_i pi_j) / N.

    Args:
        matrix: (n, n), row-stochastic.
        num_steps: N, the number of consecutive states that are counted.

    Returns:
        (n, n) float64, the covariance of the fractions around `stationary_distribution(matrix)`.
        Its diagonal has the squared standard errors, which account for the chain's autocorrelation.

    Raises:
        TypeError, ValueError: as for `stationary_distribution`, or `num_steps` isn't a positive
            integer.
    """
    matrix = checked_transitions("`matrix`", matrix)
    num_steps = checks.positive_integer("`num_steps`", num_steps)
    pi = stationary_distribution(matrix)
    z, identity, centered = _fundamental(matrix, pi), np.eye(len(pi)), matrix - pi
    rest = centered @ (identity - np.linalg.matrix_power(centered, num_steps - 1)) @ z
    later = pi[:, np.newaxis] * (centered @ z @ ((num_steps - 1) * identity - rest))
    at_once = num_steps * (np.diag(pi) - np.outer(pi, pi))
    return (at_once + later + later.T) / num_steps**2


def checked_transitions(name: str, matrix: ArrayLike) -> Array:
    """Returns a transition matrix (n, n) as float64, or raises TypeError or ValueError."""
    matrix = checked_stochastic(name, matrix)
    if matrix.shape[0] != matrix.shape[1]:
        raise checks.invalid(name, "square, (n, n)", f"shape {matrix.shape}")
    return matrix


def checked_stochastic(name: str, table: ArrayLike, *, shape: Shape | None = None) -> Array:
    """Returns conditional probabilities, which sum to 1 over the last axis, as float64.

    Args:
        name: the argument as the caller wrote it.
        table: an array.
        shape: the expected shape, with None for any size of an axis; by default (any, any).

    Raises:
        TypeError: the table doesn't hold real numbers.
        ValueError: the table has another shape, or its values aren't probabilities.
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
            "Divide by the sums, or transpose a matrix whose columns sum to 1.",
        )
    return table


def _eliminated(matrix: Array) -> Array:
    """Returns the stationary distribution of an irreducible chain."""
    rates = matrix.copy()
    for last in range(len(rates) - 1, 0, -1):
        # Reduces the chain to the states before the last: a visit to the last state is replaced by
        # the move that leaves it. The diagonal is never used, so nothing is subtracted.
        leaving = rates[last, :last].sum()
        if leaving == 0:
            raise checks.invalid(
                "The chain",
                "one whose probabilities to leave a state don't underflow in float64",
                f"state {last} of a recurrent class, left with a probability below 1e-308",
            )
        rates[:last, last] /= leaving
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    pi = np.ones(len(rates))
    for state in range(1, len(rates)):
        pi[state] = pi[:state] @ rates[:state, state]
    return pi / pi.sum()


def _period(graph: scipy.sparse.csr_array, states: Array, source: Array, target: Array) -> int:
    """Returns the greatest common divisor of the lengths of all cycles in a recurrent class."""
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
