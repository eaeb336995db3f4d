import itertools
import json

import numpy as np
import pytest

from thesis_tf.gsn.finite.markov import (
    PerturbationBound,
    ergodicity,
    fundamental_matrix,
    occupation_covariance,
    perturbation_bound,
    stationary_distribution,
)


def random_chain(n, seed=0, concentration=1.0):
    return np.random.default_rng(seed).dirichlet(np.full(n, concentration), size=n)


def birth_and_death(up, down):
    """Returns a chain of moves by one: up[i] from i to i + 1, down[i] from i + 1 to i."""
    matrix = np.diag(up, 1) + np.diag(down, -1)
    return matrix + np.diag(1 - matrix.sum(axis=1))


def cycle(n):
    return np.roll(np.eye(n), 1, axis=1)


def blocks(*matrices):
    n = sum(map(len, matrices))
    joined, start = np.zeros((n, n)), 0
    for matrix in matrices:
        stop = start + len(matrix)
        joined[start:stop, start:stop] = matrix
        start = stop
    return joined


# Two recurrent classes, {1} and {2, 3} of period 2, and a transient state that leads to both.
SPLIT = np.array([[0.5, 0.2, 0.3, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_eigenvector_at_1(n):
    matrix = random_chain(n, seed=n)
    values, vectors = np.linalg.eig(matrix.T)
    vector = vectors[:, np.argmin(np.abs(values - 1))].real
    pi = stationary_distribution(matrix)
    assert pi.dtype == np.float64
    np.testing.assert_allclose(pi, vector / vector.sum(), rtol=1e-11)
    np.testing.assert_allclose(pi, np.linalg.matrix_power(matrix, 300)[0], rtol=1e-11)


def test_two_states():
    a, b = 0.3, 1e-9
    pi = stationary_distribution([[1 - a, a], [b, 1 - b]])
    np.testing.assert_allclose(pi, [b / (a + b), a / (a + b)], rtol=1e-13)


def test_birth_and_death():
    rng = np.random.default_rng(0)
    up, down = rng.uniform(0.05, 0.5, (2, 29))
    odds = np.concatenate([[1], np.cumprod(up / down)])
    pi = stationary_distribution(birth_and_death(up, down))
    np.testing.assert_allclose(pi, odds / odds.sum(), rtol=1e-12)


def test_parts_that_hardly_ever_meet():
    """I - K is singular in float64, so its null vector is not determined."""
    out, back = 3e-20, 1e-20
    matrix = blocks(random_chain(3, 0), random_chain(2, 1))
    matrix[0, 3], matrix[4, 1] = out, back
    pi = stationary_distribution(matrix)
    parts = stationary_distribution(matrix[:3, :3]), stationary_distribution(matrix[3:, 3:])
    # The flow from the first part to the second equals the flow back.
    weight = np.array([parts[1][1] * back, parts[0][0] * out])
    weight /= weight.sum()
    expected = np.concatenate([weight[0] * parts[0], weight[1] * parts[1]])
    np.testing.assert_allclose(pi, expected, rtol=1e-12)


def test_periodic_chains_have_one():
    np.testing.assert_allclose(stationary_distribution(cycle(5)), np.full(5, 0.2), rtol=1e-14)
    np.testing.assert_allclose(stationary_distribution([[0, 1], [1, 0]]), [0.5, 0.5])


def test_transient_states_are_left():
    pi = stationary_distribution([[0.5, 0.25, 0.25], [0, 0.9, 0.1], [0, 0.2, 0.8]])
    np.testing.assert_allclose(pi, [0, 2 / 3, 1 / 3], rtol=1e-14)


def test_a_single_state():
    assert stationary_distribution([[1.0]]) == [1.0]
    assert ergodicity([[1.0]]).ergodic
    assert fundamental_matrix([[1.0]]) == [[1.0]]
    assert occupation_covariance([[1.0]], 10) == [[0.0]]
    bound = perturbation_bound([[1.0]], [[1.0]])
    assert (bound.distance, bound.bound, bound.holds) == (0, 0, True)


@pytest.mark.parametrize(
    ("matrix", "irreducible", "period", "recurrent"),
    [
        (random_chain(4), True, 1, [(0, 1, 2, 3)]),
        (cycle(6), True, 6, [(0, 1, 2, 3, 4, 5)]),
        # A walk on a path without pauses alternates between even and odd states.
        (birth_and_death([1, 0.5, 0.5], [0.5, 0.5, 1]), True, 2, [(0, 1, 2, 3)]),
        # Returns take 2 or 3 steps.
        ([[0, 1, 0], [0.5, 0, 0.5], [1, 0, 0]], True, 1, [(0, 1, 2)]),
        # A local walk on a ring with an even number of states, without and with pauses.
        (cycle(6) / 2 + cycle(6).T / 2, True, 2, [(0, 1, 2, 3, 4, 5)]),
        (cycle(6) / 2 + np.eye(6) / 2, True, 1, [(0, 1, 2, 3, 4, 5)]),
        (np.eye(3), False, 1, [(0,), (1,), (2,)]),
        (SPLIT, False, 2, [(1,), (2, 3)]),
        (blocks(cycle(2), cycle(3)), False, 6, [(0, 1), (2, 3, 4)]),
        ([[0.5, 0.5], [0, 1]], False, 1, [(1,)]),
        # A transient state that leads to a cycle of three states.
        ([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]], False, 3, [(1, 2, 3)]),
    ],
)
def test_ergodicity(matrix, irreducible, period, recurrent):
    found = ergodicity(matrix)
    assert (found.irreducible, found.period) == (irreducible, period)
    assert list(found.recurrent_classes) == recurrent
    assert found.ergodic == (irreducible and period == 1)
    # Powers of the matrix converge to equal rows.
    power = np.linalg.matrix_power(np.asarray(matrix, float), 5040)
    settled = np.allclose(power, power @ matrix, atol=1e-8)
    assert settled == (found.period == 1)
    assert found.converges == (settled and np.allclose(power, power[0], atol=1e-8))


def test_more_than_one_recurrent_class():
    with pytest.raises(ValueError, match=r"2 classes: \[1\], \[2, 3\]\. Use the rows"):
        stationary_distribution(SPLIT)
    with pytest.raises(ValueError, match=r"20 classes: \[0\], \[1\], \[2\], \[3\], \.\.\.\."):
        stationary_distribution(np.eye(20))
    with pytest.raises(ValueError, match=r"\[0, 1, 2, 3, 4, 5, \.\.\.\], \[9\]"):
        stationary_distribution(blocks(cycle(9), cycle(1)))


def test_moves_too_unlikely_for_float64():
    matrix = [[1, 1e-200, 0], [0, 1, 1e-200], [1e-200, 1, 0]]
    with pytest.raises(ValueError, match=r"state 1 of .* below 1e-308"):
        stationary_distribution(matrix)


def test_the_fundamental_matrix_sums_what_is_left_of_the_past():
    matrix = random_chain(6, seed=3)
    pi = stationary_distribution(matrix)
    series = sum(np.linalg.matrix_power(matrix, t) - pi for t in range(1, 200))
    np.testing.assert_allclose(fundamental_matrix(matrix), np.eye(6) + series, atol=1e-13)
    np.testing.assert_allclose(
        fundamental_matrix(matrix) @ (np.eye(6) - matrix), np.eye(6) - pi, atol=1e-13
    )


def test_theorem_4_on_random_perturbations():
    rng = np.random.default_rng(0)
    closest = 0
    for _ in range(1000):
        n, step = rng.integers(2, 9), rng.uniform() ** 3
        concentration = 10 ** rng.uniform(-1, 1)
        first, second = rng.dirichlet(np.full(n, concentration), size=(2, n)) + 1e-12
        first, second = (m / m.sum(axis=1, keepdims=True) for m in (first, second))
        found = perturbation_bound(first, (1 - step) * first + step * second)
        assert found.holds
        assert found.distance <= found.bound + 1e-12
        assert found.sharper_bound <= found.bound + 1e-12
        closest = max(closest, found.distance / found.sharper_bound)
    assert 0.9 < closest <= 1 + 1e-9


def test_the_bound_of_two_states_in_closed_form():
    """Z = 1 pi + (I - 1 pi) / (a + b), for rows that differ by (1, -1) / (a + b)."""
    (a, b), (c, d) = (0.2, 0.3), (0.25, 0.1)
    found = perturbation_bound([[1 - a, a], [b, 1 - b]], [[1 - c, c], [d, 1 - d]])
    assert found.change == pytest.approx(2 * max(abs(a - c), abs(b - d)))
    assert found.sharper_bound == pytest.approx(found.change / (a + b))
    pi = np.array([b, a]) / (a + b)
    z = pi + (np.eye(2) - pi) / (a + b)
    assert found.bound == pytest.approx(np.abs(z).sum(axis=1).max() * found.change)
    assert found.distance == pytest.approx(2 * abs(a / (a + b) - c / (c + d)))


def test_one_recurrent_class_is_enough_for_theorem_4():
    matrix = np.array([[0.5, 0.25, 0.25], [0, 0.9, 0.1], [0, 0.2, 0.8]])
    other = np.array([[0.5, 0.25, 0.25], [0, 0, 1], [0, 1, 0]])
    for pair in ((matrix, other), (other, matrix), (matrix, cycle(3)), (cycle(3), matrix)):
        assert 0 < perturbation_bound(*pair).distance <= perturbation_bound(*pair).sharper_bound


def test_sums_of_rows_of_the_thesis_matrices_are_no_bound():
    """The thesis' matrices have columns of sum 1, for which the other norm is not a bound.

    A column that changes a little in each of n rows has small row sums.
    """
    n, step = 40, 0.01
    pi = np.full(n, 0.5 / (n - 1))
    pi[0] = 0.5
    matrix = np.tile(pi, (n, 1))
    other = matrix.copy()
    other[0, 1:] += step * pi[1:] * np.where(np.arange(n - 1) % 2, 1, -1)
    other[0, 0] += 1 - other[0].sum()
    found = perturbation_bound(matrix, other)
    columns = lambda m: np.abs(m.T).sum(axis=1).max()  # noqa: E731
    read_literally = columns(fundamental_matrix(matrix)) * columns(matrix - other)
    assert read_literally < found.distance / 15
    assert found.holds


@pytest.mark.parametrize(
    "matrix", [random_chain(3, seed=5), cycle(3), [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]]
)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_occupation_by_all_paths(matrix, steps):
    matrix = np.asarray(matrix, float)
    pi = stationary_distribution(matrix)
    second = np.zeros((3, 3))
    for path in itertools.product(range(3), repeat=steps):
        chance = pi[path[0]] * np.prod([matrix[a, b] for a, b in itertools.pairwise(path)])
        probability = np.bincount(path, minlength=3) / steps
        second += chance * np.outer(probability, probability)
    found = occupation_covariance(matrix, steps)
    np.testing.assert_allclose(found, second - np.outer(pi, pi), atol=1e-15)


def test_occupation_of_long_chains_is_that_of_kemeny_and_snell():
    matrix = random_chain(5, seed=6)
    pi, z = stationary_distribution(matrix), fundamental_matrix(matrix)
    flow = pi[:, np.newaxis] * z
    limit = flow + flow.T - np.diag(pi) - np.outer(pi, pi)
    np.testing.assert_allclose(occupation_covariance(matrix, 10**6) * 10**6, limit, atol=1e-5)
    independent = np.tile(pi, (5, 1))
    expected = (np.diag(pi) - np.outer(pi, pi)) / 50
    np.testing.assert_allclose(occupation_covariance(independent, 50), expected, atol=1e-16)


@pytest.mark.parametrize(
    "function",
    [
        stationary_distribution,
        ergodicity,
        fundamental_matrix,
        lambda m: perturbation_bound(m, m),
        lambda m: occupation_covariance(m, 3),
    ],
)
@pytest.mark.parametrize(
    ("matrix", "error", "match"),
    [
        (np.full((2, 3), 1 / 3), ValueError, r"`matrix` must be square, \(n, n\)\. .* \(2, 3\)"),
        (np.ones(2) / 2, ValueError, r"of shape \(any, any\)\. Received: shape \(2,\)"),
        (np.ones((0, 0)), ValueError, r"shape \(0, 0\)"),
        ([[1.5, -0.5], [0, 1]], ValueError, r"at least 0\. Received: -0.5"),
        ([[np.nan, 1], [0, 1]], ValueError, r"finite probabilities of at least 0\. Received: nan"),
        ([[1, 0], [0.5, 0.501]], ValueError, r"row 1, whose sum is 1.001\. Divide by the sums"),
        ([["a", "b"], ["c", "d"]], TypeError, "an array of real numbers"),
        (np.eye(2, dtype=complex), TypeError, r"real numbers\. Received: complex128"),
    ],
)
def test_bad_matrices(function, matrix, error, match):
    with pytest.raises(error, match=match):
        function(matrix)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match=r"`other` must be of shape \(2, 2\), as `matrix`"):
        perturbation_bound(np.eye(2)[::-1], cycle(3))
    with pytest.raises(ValueError, match=r"`other` must be square"):
        perturbation_bound(cycle(2), np.ones((2, 1)))
    with pytest.raises(ValueError, match="`num_steps` must be a positive integer"):
        occupation_covariance(cycle(2), 0)


def test_rounding_in_the_rows_is_no_error():
    thirds = np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(stationary_distribution(thirds), thirds[0], rtol=1e-15)
    stationary_distribution(random_chain(5) * (1 + 4e-9))
    with pytest.raises(ValueError, match="Divide by the sums"):
        stationary_distribution(random_chain(5) * (1 + 6e-9))


def test_arguments_stay_as_they_are():
    matrix = random_chain(4)
    before = matrix.copy()
    stationary_distribution(matrix)
    perturbation_bound(matrix, cycle(4))
    np.testing.assert_array_equal(matrix, before)


def test_results_in_short():
    found = ergodicity(SPLIT)
    assert found.table() == (
        "property           value\n"
        "ergodic               no\n"
        "converges             no\n"
        "irreducible           no\n"
        "period                 2\n"
        "recurrent classes      2"
    )
    assert repr(found) == (
        "Ergodicity(ergodic=no, converges=no, irreducible=no, period=2, recurrent_classes=2)"
    )
    assert json.loads(json.dumps(found.summary())) == {
        "ergodic": False,
        "converges": False,
        "irreducible": False,
        "period": 2,
        "recurrent_classes": 2,
    }

    bound = PerturbationBound(np.array([0.5, 0.5]), np.array([0.25, 0.75]), 0.75, 1.5, 1.0)
    assert bound.table() == (
        "property       value\n"
        "holds            yes\n"
        "distance         0.5\n"
        "bound            1.5\n"
        "sharper bound      1\n"
        "change          0.75"
    )
    assert repr(bound) == (
        "PerturbationBound(holds=yes, distance=0.5, bound=1.5, sharper_bound=1, change=0.75)"
    )
    assert json.loads(json.dumps(bound.summary())) == {
        "holds": True,
        "distance": 0.5,
        "bound": 1.5,
        "sharper_bound": 1.0,
        "change": 0.75,
    }
    computed = perturbation_bound(random_chain(4), random_chain(4, 1))
    assert json.dumps(computed.summary())
