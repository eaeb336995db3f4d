import itertools
import json

import numpy as np
import pytest

from thesis_tf.gsn.finite.denoising import (
    ChainCheck,
    counted_posterior,
    denoising_chain,
    positivity,
    posterior,
)
from thesis_tf.gsn.finite.markov import perturbation_bound


def random_problem(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m), size=n)


def local(n, ring=False):
    """A corruption that stays or moves to a neighbor on a path, or on a ring."""
    matrix = np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)
    if ring:
        matrix[0, -1] = matrix[-1, 0] = 1
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (5, 5), (4, 7), (6, 2)])
def test_the_posterior_by_enumeration(n, m):
    data, corruption = random_problem(n, m)
    found = posterior(data, corruption)
    for x, noisy in itertools.product(range(n), range(m)):
        evidence = sum(data[other] * corruption[other, noisy] for other in range(n))
        assert found[noisy, x] == pytest.approx(data[x] * corruption[x, noisy] / evidence)


def test_what_never_occurs_leads_back_to_the_data():
    data = np.array([0.25, 0.75, 0])
    found = posterior(data, [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 7, 6 / 7, 0], data, data])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (12, 12), (9, 30), (30, 4)])
def test_the_chain_samples_the_data(n, m):
    data, corruption = random_problem(n, m, seed=n)
    check = denoising_chain(data, corruption)
    assert check.applies
    assert check.distance < 1e-13
    power = np.linalg.matrix_power(check.transition, 3000)
    np.testing.assert_allclose(power, np.tile(data, (n, 1)), atol=1e-10)
    # The chain is reversible.
    flow = data[:, np.newaxis] * check.transition
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)


def test_local_noise_and_a_data_set_of_small_support(roundings):
    data = np.array([0, 0.1, 0.2, 0.3, 0.4, 0, 0])
    check = denoising_chain(data, local(7))
    assert check.distance <= roundings(7, 7)
    np.testing.assert_array_equal(check.stationary[[0, 5, 6]], 0)


def test_what_is_reconstructed_from_what_never_occurs_is_free(roundings):
    data, corruption = [0.5, 0.5], np.array([[0.5, 0.5, 0], [0.2, 0.8, 0]])
    reconstruction = posterior(data, corruption)
    reconstruction[2] = [1, 0]
    check = denoising_chain(data, corruption, reconstruction=reconstruction)
    assert check.applies
    assert check.distance <= roundings(2, 3)


def test_a_wrong_reconstruction_samples_something_else():
    data, corruption = random_problem(5, 5, seed=3)
    exact = denoising_chain(data, corruption)
    _, other = random_problem(5, 5, seed=4)
    distances = []
    for step in (0.3, 0.1, 0.03, 0.01):
        wrong = (1 - step) * posterior(data, corruption) + step * other
        check = denoising_chain(data, corruption, reconstruction=wrong)
        assert check.conditions == {"posterior": False}
        bound = perturbation_bound(exact.transition, check.transition)
        assert 0 < check.distance <= bound.sharper_bound
        assert check.distance == pytest.approx(bound.distance)
        distances.append(check.distance)
    # Consistency: a better estimate of P(x | x~) gives a distribution nearer to the data.
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 8 * distances[3]


def test_counting():
    examples, corrupted = np.array([0, 0, 2, 2, 2, 1]), np.array([0, 1, 1, 1, 3, 3])
    found = counted_posterior(examples, corrupted, 3, num_corrupted=4)
    histogram = [2 / 6, 1 / 6, 3 / 6]
    expected = [[1, 0, 0], [1 / 3, 0, 2 / 3], histogram, [0, 1 / 2, 1 / 2]]
    np.testing.assert_allclose(found, expected)


def test_counting_is_consistent():
    data, corruption = random_problem(4, 3, seed=1)
    rng, count = np.random.default_rng(0), 200_000
    examples = rng.choice(4, size=count, p=data)
    corrupted = np.array([rng.choice(3, size=count, p=row) for row in corruption])[
        examples, np.arange(count)
    ]
    found, exact = (
        counted_posterior(examples, corrupted, 4, num_corrupted=3),
        posterior(data, corruption),
    )
    pairs = count * (data @ corruption)[:, np.newaxis]
    assert (np.abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / pairs)).all()
    # For counts in exact proportion to probabilities, it is the posterior.
    table = np.array([[3, 1, 2], [4, 4, 8], [1, 5, 6]])
    pairs = np.repeat([(x, noisy) for x in range(3) for noisy in range(3)], table.ravel(), axis=0)
    data = table.sum(axis=1) / table.sum()
    exact = posterior(data, table / table.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(counted_posterior(*pairs.T, 3), exact)


@pytest.mark.parametrize(
    ("data", "corruption", "reconstruction", "corollaries", "settles"),
    [
        # Noise that reaches all states.
        (np.full(4, 0.25), np.full((4, 4), 0.25), None, (True, True), True),
        (np.ones(1), np.ones((1, 3)) / 3, None, (True, True), True),
        # Noise that reaches neighbors.
        (np.full(5, 0.2), local(5), None, (False, True), True),
        ([0, 0.5, 0.5, 0, 0], local(5), None, (False, True), True),
        ([0, 0.5, 0.5, 0, 0], local(5) @ local(5), None, (False, True), True),
        ([0.5, 0.5, 0], local(3) @ local(3), None, (True, True), True),
        # The x~ in a gap of 1 bridges it; a gap of 2 isn't bridged.
        ([0.5, 0, 0.5, 0, 0], local(5), None, (False, True), True),
        ([0.5, 0, 0, 0.5, 0], local(5), None, (False, False), False),
        # Without noise, the state doesn't change.
        (np.full(2, 0.5), np.eye(2), None, (False, False), False),
        # A reconstruction that adds 1 to x~: the chain converges, but no corollary applies.
        (np.full(4, 0.25), local(4, ring=True), np.roll(np.eye(4), 1, 1), (False, False), True),
        # The same without noise has a period of 4.
        (np.full(4, 0.25), np.eye(4), np.roll(np.eye(4), 1, 1), (False, False), False),
        # A reconstruction that leaves the data: the chain is ergodic, but on other states.
        ([0.5, 0.5, 0], np.full((3, 3), 1 / 3), np.full((3, 3), 1 / 3), (False, False), False),
        # All states lead to state 0, so the chain converges, but not on all data.
        (np.full(2, 0.5), np.full((2, 2), 0.5), [[1, 0], [1, 0]], (False, False), False),
    ],
)
def test_corollaries(data, corruption, reconstruction, corollaries, settles):
    found = positivity(data, corruption, reconstruction=reconstruction)
    assert (found.corollary_1, found.corollary_2) == corollaries
    support = tuple(np.flatnonzero(data).tolist())
    on_the_data = found.ergodicity.recurrent_classes == (support,)
    assert (on_the_data and found.ergodicity.period == 1) == settles


def test_either_corollary_makes_the_chain_settle_on_the_data():
    """The corollaries are sufficient on problems with zeros anywhere, but not necessary."""
    rng, held, needless = np.random.default_rng(0), [0, 0], 0
    for _ in range(400):
        n, m = rng.integers(1, 6, size=2)

        def table(rows, columns, probability):
            kept = rng.random((rows, columns)) < probability
            kept[np.arange(rows), rng.integers(columns, size=rows)] = True
            weights = kept * rng.uniform(0.1, 1, (rows, columns))
            return weights / weights.sum(axis=1, keepdims=True)

        data = table(1, n, 0.7)[0]
        corruption = table(n, m, 0.6)
        reconstruction = table(m, n, 0.8) if rng.random() < 0.7 else None
        found = positivity(data, corruption, reconstruction=reconstruction)
        support = tuple(np.flatnonzero(data).tolist())
        settles = found.ergodicity.converges and found.ergodicity.recurrent_classes == (support,)
        assert found.corollary_2 or not found.corollary_1
        assert settles or not found.corollary_2
        held[0] += found.corollary_1
        held[1] += found.corollary_2
        needless += settles and not found.corollary_2
    assert held[1] > held[0] > 20
    assert needless > 20


def test_a_gap_in_the_data_has_no_single_answer():
    with pytest.raises(ValueError, match=r"2 classes: \[0\], \[3\]"):
        denoising_chain([0.5, 0, 0, 0.5], local(4))


@pytest.mark.parametrize("function", [posterior, denoising_chain, positivity])
@pytest.mark.parametrize(
    ("data", "corruption", "match"),
    [
        ([0.5, 0.6], np.eye(2), r"`data` must be of sum 1\. Received: a sum of 1\.1"),
        ([[1.0]], np.eye(1), r"`data` must be of shape \(any\)"),
        ([1.5, -0.5], np.eye(2), "`data` must be finite probabilities"),
        ([0.5, 0.5], np.eye(3), r"`corruption` must be of shape \(2, any\)"),
        ([0.5, 0.5], [[1, 1], [0, 1]], "`corruption` must be of rows that sum to 1"),
    ],
)
def test_bad_problems(function, data, corruption, match):
    with pytest.raises(ValueError, match=match):
        function(data, corruption)


def test_bad_reconstructions():
    for function in (denoising_chain, positivity):
        with pytest.raises(ValueError, match=r"`reconstruction` must be of shape \(3, 2\)"):
            function([0.5, 0.5], np.full((2, 3), 1 / 3), reconstruction=np.full((2, 3), 1 / 3))


@pytest.mark.parametrize(
    ("examples", "corrupted", "states", "error", "match"),
    [
        ([0.0, 1.0], [0, 1], 2, TypeError, r"`examples` must be integers\. Received: float64"),
        ([0, 2], [0, 1], 2, ValueError, r"`examples` must be integers in \[0, 2\)\. .*\[0, 2\]"),
        ([0, 1], [-1, 1], 2, ValueError, r"`corrupted` must be integers in \[0, 2\)"),
        ([0, 1], [0], 2, ValueError, r"`corrupted` must be of shape \(2,\), as `examples`"),
        ([[0, 1]], [[0, 1]], 2, ValueError, r"`examples` must be of shape \(pairs,\)"),
        (np.zeros(0, int), np.zeros(0, int), 2, ValueError, r"of shape \(pairs,\)"),
        ([0], [0], 0, ValueError, "`num_states` must be a positive integer"),
    ],
)
def test_bad_pairs(examples, corrupted, states, error, match):
    with pytest.raises(error, match=match):
        counted_posterior(examples, corrupted, states)


def test_results_in_short():
    check = ChainCheck(
        np.eye(3), np.array([0.5, 0.5, 0]), np.array([0.25, 0.75, 0]), {"posterior": False}
    )
    assert check.table() == (
        "property              value\ncondition: posterior     no\ndistance                0.5"
    )
    assert repr(check) == "ChainCheck(applies=no, distance=0.5, states=3)"
    assert json.loads(json.dumps(check.summary())) == {
        "applies": False,
        "distance": 0.5,
        "states": 3,
        "conditions": {"posterior": False},
    }

    found = positivity([0.5, 0.5], np.full((2, 2), 0.5))
    assert found.table() == (
        "property           value\n"
        "corollary 1          yes\n"
        "corollary 2          yes\n"
        "ergodic              yes\n"
        "converges            yes\n"
        "irreducible          yes\n"
        "period                 1\n"
        "recurrent classes      1"
    )
    assert repr(found).startswith("Positivity(corollary_1=yes, corollary_2=yes, ergodic=yes,")
    assert json.loads(json.dumps(found.summary())) == {
        "corollary_1": True,
        "corollary_2": True,
        "ergodic": True,
        "converges": True,
        "irreducible": True,
        "period": 1,
        "recurrent_classes": 1,
    }
