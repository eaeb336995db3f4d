"""Dependency networks as generative stochastic networks (thesis, 5.3.7 and Proposition 5).

A dependency network specifies, for some subsets of d discrete variables, the conditional
distribution of the subset given all other variables. The conditionals are learned separately and
need not belong to one joint distribution. Viewed as a GSN, the hidden state h is the chosen subset
together with the values of the other variables.

A distribution of x is a table of shape (k_1, ..., k_d) with N values, numbered in the order of
`ravel`. A conditional is such a table that sums to 1 over the axes of its subset. Conditionals are
a dict {axes: table}; its keys are tuples of axes such as (0,) and (1, 2).
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.gsn.finite import markov
from thesis_tf.gsn.finite.denoising import TOLERANCE, ChainCheck

Conditionals: TypeAlias = Mapping[tuple[int, ...], ArrayLike]
Weights: TypeAlias = Mapping[tuple[int, ...], float]


def conditional(joint: ArrayLike, axes: tuple[int, ...]) -> Array:
    """Returns P(x_s | x_-s) for a subset s of the variables.

    Args:
        joint: (k_1, ..., k_d), probabilities that sum to 1.
        axes: a tuple of axes, the subset s.

    Returns:
        (k_1, ..., k_d) float64; P(x_s) where the values of the other variables have probability 0.

    Raises:
        TypeError, ValueError: `joint` doesn't hold probabilities, or `axes` aren't axes of it.
    """
    joint = _checked_joint(joint)
    groups = _groups(joint.shape, axes)
    grouped = joint.ravel()[groups]
    total = grouped.sum(axis=1, keepdims=True)
    marginal = np.tile(grouped.sum(axis=0), (len(grouped), 1))
    table = np.empty(joint.size)
    table[groups] = np.divide(grouped, total, out=marginal, where=total > 0)
    return table.reshape(joint.shape)


def resampling_matrix(table: ArrayLike, axes: tuple[int, ...]) -> Array:
    """Returns the transition matrix (N, N) that resamples x_s from P(x_s | x_-s).

    Args:
        table: (k_1, ..., k_d), which sums to 1 over `axes`.
        axes: a tuple of axes, the subset s.

    Raises:
        TypeError, ValueError: `table` doesn't hold probabilities, or `axes` aren't axes of it.
    """
    table = np.asarray(table)
    groups = _groups(table.shape, axes)
    name = f"The conditional of {axes}, with one row per state of the other variables,"
    rows = markov.checked_stochastic(name, table.ravel()[groups])
    matrix = np.zeros((table.size, table.size))
    matrix[groups[:, :, np.newaxis], groups[:, np.newaxis]] = rows[:, np.newaxis]
    return matrix


def random_scan(conditionals: Conditionals, *, probabilities: Weights | None = None) -> Array:
    """Returns the transition matrix (N, N) that chooses a random subset s and resamples x_s.

    Args:
        conditionals: {axes: table}.
        probabilities: {axes: probability that the subset is chosen}, summing to 1; None for equal
            probabilities.

    Raises:
        TypeError, ValueError: there are no conditionals, the tables differ in shape, or
            `probabilities` has other subsets than `conditionals`.
    """
    return _mixture(_matrices(conditionals), probabilities)


def ordered_scan(
    conditionals: Conditionals, *, order: Sequence[tuple[int, ...]] | None = None
) -> Array:
    """Returns the transition matrix (N, N) that resamples one subset after the other.

    This is ordered pseudo-Gibbs sampling (Heckerman et al., 2000). If the conditionals don't belong
    to one joint distribution, its stationary distribution depends on the order. `random_scan` has
    no order.

    Args:
        conditionals: {axes: table}.
        order: subsets, first to last; None for the order of the dict.

    Raises:
        TypeError, ValueError: there are no conditionals, the tables differ in shape, or `order`
            has other subsets than `conditionals`.
    """
    matrices = _matrices(conditionals)
    order = list(matrices) if order is None else [tuple(axes) for axes in order]
    if not order or not set(order) <= set(matrices):
        raise checks.invalid("`order`", f"of the subsets {list(matrices)}", order)
    product = matrices[order[0]]
    for axes in order[1:]:
        product = product @ matrices[axes]
    return product


def dependency_network(
    joint: ArrayLike,
    *,
    conditionals: Conditionals | None = None,
    probabilities: Weights | None = None,
) -> ChainCheck:
    """Checks that a dependency network samples the joint distribution (Proposition 5).

    For any conditionals, if each state can be reached from each other, the chain of `random_scan`
    has one stationary distribution. It is the joint distribution that the network defines, and the
    result's `stationary`. It equals `joint` if each conditional is a conditional of `joint`. The
    conditions:

        "consistent": each conditional preserves the stationary distribution, so all of them are
            conditionals of one joint distribution; then the stationary distribution is the same for
            any order and any probabilities of subsets;
        "exact": each conditional is that of `joint`, wherever the latter is defined.

    Args:
        joint: (k_1, ..., k_d), the data's distribution, the expected stationary distribution.
        conditionals: {axes: table}; None for those of `joint`, one for each variable.
        probabilities: as for `random_scan`.

    Returns:
        `ChainCheck`; its distributions have shape (N,) and can be reshaped to that of `joint`.

    Raises:
        TypeError, ValueError: an argument doesn't hold probabilities of the given shape, or the
            chain has several recurrent classes, for instance because two variables that are always
            equal are resampled separately.
    """
    joint = _checked_joint(joint)
    if conditionals is None:
        conditionals = {(axis,): conditional(joint, (axis,)) for axis in range(joint.ndim)}
    matrices = _matrices(conditionals)
    shape = np.shape(next(iter(conditionals.values())))
    if shape != joint.shape:
        raise checks.invalid("`conditionals`", f"of shape {joint.shape}, as `joint`", shape)
    transition = _mixture(matrices, probabilities)
    stationary = markov.stationary_distribution(transition)
    changes = [np.abs(stationary @ matrix - stationary).sum() for matrix in matrices.values()]
    conditions = {
        "consistent": bool(max(changes) <= TOLERANCE),
        "exact": all(_is_exact(joint, table, axes) for axes, table in conditionals.items()),
    }
    return ChainCheck(transition, joint.ravel(), stationary, conditions)


def _mixture(matrices: dict[tuple[int, ...], Array], probabilities: Weights | None) -> Array:
    if probabilities is None:
        probabilities = dict.fromkeys(matrices, 1 / len(matrices))
    if set(probabilities) != set(matrices):
        raise checks.invalid(
            "`probabilities`", f"of the subsets {list(matrices)}", list(probabilities)
        )
    given = [probabilities[axes] for axes in matrices]
    weights = markov.checked_stochastic("`probabilities`", given, shape=(None,))
    products = [weight * matrix for weight, matrix in zip(weights, matrices.values(), strict=True)]
    return np.sum(products, axis=0)


def _is_exact(joint: Array, table: ArrayLike, axes: tuple[int, ...]) -> bool:
    occurs = np.broadcast_to(joint.sum(axis=axes, keepdims=True) > 0, joint.shape)
    exact = conditional(joint, axes)
    return np.allclose(np.asarray(table)[occurs], exact[occurs], rtol=0, atol=TOLERANCE)


def _matrices(conditionals: Conditionals) -> dict[tuple[int, ...], Array]:
    if not isinstance(conditionals, dict) or not conditionals:
        raise checks.invalid(
            "`conditionals`", "a dict {axes: table}", repr(conditionals)[:60], kind=TypeError
        )
    shapes = {np.shape(table) for table in conditionals.values()}
    if len(shapes) > 1:
        raise checks.invalid("`conditionals`", "tables of one shape", sorted(shapes))
    return {axes: resampling_matrix(table, axes) for axes, table in conditionals.items()}


def _groups(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Returns indices of states (N / K, K): a row has all values of x_s for one value of x_-s."""
    if not (
        isinstance(axes, tuple)
        and axes
        and len(set(axes)) == len(axes)
        and all(axis in range(len(shape)) for axis in axes)
    ):
        raise checks.invalid(
            "A subset", f"a tuple of distinct axes in [0, {len(shape)}), such as (0,)", repr(axes)
        )
    numbers = np.arange(math.prod(shape)).reshape(shape)
    last = np.moveaxis(numbers, axes, range(-len(axes), 0))
    return last.reshape(-1, math.prod(shape[axis] for axis in axes))


def _checked_joint(joint: ArrayLike) -> Array:
    joint = np.asarray(joint)
    flat = markov.checked_stochastic("`joint`", joint.ravel(), shape=(None,))
    return flat.reshape(joint.shape)
