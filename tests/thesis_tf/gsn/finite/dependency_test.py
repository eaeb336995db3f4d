import itertools
from functools import partial

import numpy as np
import pytest

from thesis_tf.gsn.finite.dependency import (
    conditional,
    dependency_network,
    ordered_scan,
    random_scan,
    resampling_matrix,
)
from thesis_tf.gsn.finite.markov import stationary_distribution


def random_joint(shape=(2, 3, 2), seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(np.prod(shape))).reshape(shape)


def inconsistent(shape=(2, 3), seed=0):
    """Returns conditionals of the variables, each from a different joint."""
    return {
        (axis,): conditional(random_joint(shape, seed + axis), (axis,))
        for axis in range(len(shape))
    }


def settled(matrix, shape):
    return stationary_distribution(matrix).reshape(shape)


def test_conditionals():
    joint = random_joint()
    for axes in [(0,), (1,), (0, 2), (2, 1), (0, 1, 2)]:
        expected = joint / joint.sum(axis=axes, keepdims=True)
        np.testing.assert_allclose(conditional(joint, axes), expected, rtol=1e-14)
    found = conditional([[0.25, 0, 0.25], [0.5, 0, 0]], (0,))
    np.testing.assert_allclose(found, [[1 / 3, 0.5, 1], [2 / 3, 0.5, 0]])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (2, 0), (1, 2), (0, 1, 2)])
def test_matrices_by_enumeration(axes):
    joint = random_joint()
    table = conditional(joint, axes)
    matrix = resampling_matrix(table, axes)
    states = list(itertools.product(range(2), range(3), range(2)))
    for (i, old), (j, new) in itertools.product(enumerate(states), repeat=2):
        kept = all(old[axis] == new[axis] for axis in range(3) if axis not in axes)
        assert matrix[i, j] == (table[new] if kept else 0)
    np.testing.assert_allclose(joint.ravel() @ matrix, joint.ravel(), atol=1e-15)


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 3), (2, 3, 2), (2, 2, 2, 2)])
def test_proposition_5(shape):
    joint = random_joint(shape)
    check = dependency_network(joint)
    assert check.conditions == {"consistent": True, "exact": True}
    assert check.distance < 1e-12
    axes = [(axis,) for axis in range(len(shape))]
    tables = {one: conditional(joint, one) for one in axes}
    for order in itertools.permutations(axes):
        np.testing.assert_allclose(
            settled(ordered_scan(tables, order=order), shape), joint, atol=1e-12
        )


def test_generalized_pseudolikelihood_draws_subsets():
    joint = random_joint()
    subsets = [(0, 1), (2,), (1, 2)]
    tables = {axes: conditional(joint, axes) for axes in subsets}
    check = dependency_network(
        joint, conditionals=tables, probabilities=dict(zip(subsets, (0.2, 0.3, 0.5), strict=True))
    )
    assert check.applies
    assert check.distance < 1e-12
    matrices = [resampling_matrix(tables[axes], axes) for axes in subsets]
    expected = 0.2 * matrices[0] + 0.3 * matrices[1] + 0.5 * matrices[2]
    np.testing.assert_allclose(check.transition, expected)


def test_inconsistent_conditionals_of_two_variables():
    """Random scan converges to the mixture of the distributions of both orders."""
    tables = inconsistent()
    last_0, last_1 = (
        settled(ordered_scan(tables, order=order), (2, 3)) for order in ([(1,), (0,)], [(0,), (1,)])
    )
    assert np.abs(last_0 - last_1).sum() > 0.05
    # The variable that was drawn last has its conditional.
    np.testing.assert_allclose(conditional(last_0, (0,)), tables[(0,)], atol=1e-13)
    np.testing.assert_allclose(conditional(last_1, (1,)), tables[(1,)], atol=1e-13)
    for probability in (0.5, 0.9):
        mixed = settled(
            random_scan(tables, probabilities={(0,): probability, (1,): 1 - probability}), (2, 3)
        )
        np.testing.assert_allclose(
            mixed, probability * last_0 + (1 - probability) * last_1, atol=1e-13
        )
    check = dependency_network(random_joint((2, 3)), conditionals=tables)
    assert check.conditions == {"consistent": False, "exact": False}
    np.testing.assert_allclose(check.stationary, (last_0 + last_1).ravel() / 2, atol=1e-13)


def test_inconsistent_conditionals_define_a_joint_of_their_own(roundings):
    shape = (2, 2, 2)
    tables = inconsistent(shape, seed=5)
    joint = settled(random_scan(tables), shape)
    check = dependency_network(joint, conditionals=tables)
    assert check.distance <= roundings(8, 3)
    assert not check.applies
    # Each order has a different distribution.
    orders = list(itertools.permutations(tables))
    found = np.array([settled(ordered_scan(tables, order=order), shape) for order in orders])
    apart = np.abs(found[:, np.newaxis] - found).reshape(6, 6, -1).sum(axis=-1)
    assert apart[~np.eye(6, dtype=bool)].min() > 1e-2
    assert np.abs(found - joint).reshape(6, -1).sum(axis=1).min() > 1e-2
    # A rotated order is the same chain at another point of its round.
    for order, one in zip(orders, found, strict=True):
        ahead = one.ravel() @ resampling_matrix(tables[order[0]], order[0])
        turned = found[orders.index((*order[1:], order[0]))]
        np.testing.assert_allclose(ahead, turned.ravel(), atol=1e-13)


def test_consistent_conditionals_of_another_joint():
    joint, other = random_joint((2, 3)), random_joint((2, 3), seed=9)
    tables = {(axis,): conditional(other, (axis,)) for axis in range(2)}
    check = dependency_network(joint, conditionals=tables)
    assert check.conditions == {"consistent": True, "exact": False}
    np.testing.assert_allclose(check.stationary, other.ravel(), atol=1e-13)


def test_the_better_the_conditionals_the_nearer_the_joint():
    joint = random_joint((3, 3))
    distances = []
    for step in (0.1, 0.01, 0.001):
        tables = {
            axes: (1 - step) * conditional(joint, axes) + step * table
            for axes, table in inconsistent((3, 3), seed=7).items()
        }
        distances.append(dependency_network(joint, conditionals=tables).distance)
    assert distances[0] > 8 * distances[1] > 64 * distances[2] > 0


def test_a_joint_with_holes(roundings):
    # Updates leave the impossible value; the others are connected by changes of one variable.
    joint = np.array([[0.25, 0.25], [0.5, 0]])
    check = dependency_network(joint)
    assert check.applies
    assert check.distance <= roundings(4, 2)
    # If x_1 never has a value, there is no condition for x_0 given this value.
    joint = np.array([[0.5, 0], [0.5, 0]])
    free = {(0,): np.array([[0.5, 0.9], [0.5, 0.1]]), (1,): np.array([[1.0, 0], [1, 0]])}
    assert dependency_network(joint, conditionals=free).applies
    equal = np.array([[0.5, 0], [0, 0.5]])
    with pytest.raises(ValueError, match=r"2 classes: \[0\], \[3\]"):
        dependency_network(equal)
    pairs = {(0, 1): conditional(equal, (0, 1))}
    assert dependency_network(equal, conditionals=pairs).distance == 0


def test_a_variable_that_is_never_drawn():
    joint = random_joint((2, 2))
    with pytest.raises(ValueError, match=r"2 classes: \[0, 2\], \[1, 3\]"):
        dependency_network(joint, conditionals={(0,): conditional(joint, (0,))})


TABLE = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "match"),
    [
        (conditional, (TABLE, (0,)), ValueError, r"`joint` must be of sum 1\. .* sum of 2"),
        (conditional, (TABLE / 2, 0), ValueError, "A subset must be a tuple of distinct axes"),
        (conditional, (TABLE / 2, ()), ValueError, "A subset must be"),
        (conditional, (TABLE / 2, (2,)), ValueError, r"in \[0, 2\), such as \(0,\)\. .* \(2,\)"),
        (conditional, (TABLE / 2, (0, 0)), ValueError, "distinct axes"),
        (conditional, (TABLE / 2, (-1,)), ValueError, "distinct axes"),
        (resampling_matrix, (TABLE / 2, (0,)), ValueError, r"conditional of \(0,\), .*0\.5"),
        (resampling_matrix, (-TABLE, (0,)), ValueError, "finite probabilities"),
        (random_scan, ({},), TypeError, "`conditionals` must be a dict"),
        (random_scan, ([TABLE],), TypeError, "`conditionals` must be a dict"),
        (random_scan, ({(0,): TABLE, (1,): np.ones((2, 1))},), ValueError, "tables of one shape"),
        (
            partial(random_scan, probabilities={(1,): 1.0}),
            ({(0,): TABLE},),
            ValueError,
            "`probabilities` must be of the",
        ),
        (
            partial(random_scan, probabilities={(0,): 0.9}),
            ({(0,): TABLE},),
            ValueError,
            "`probabilities` must be of sum 1",
        ),
        (
            partial(ordered_scan, order=[(1,)]),
            ({(0,): TABLE},),
            ValueError,
            "`order` must be of the subsets",
        ),
        (
            partial(ordered_scan, order=[]),
            ({(0,): TABLE},),
            ValueError,
            "`order` must be of the subsets",
        ),
        (
            partial(dependency_network, conditionals={(0,): TABLE}),
            (np.ones((1, 1)),),
            ValueError,
            r"shape \(1, 1\), as",
        ),
    ],
)  # fmt: skip
def test_bad_input(function, arguments, error, match):
    with pytest.raises(error, match=match):
        function(*arguments)
