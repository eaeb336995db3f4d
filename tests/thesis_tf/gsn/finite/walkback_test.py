import itertools
import json

import numpy as np
import pytest

from thesis_tf.gsn.finite.denoising import denoising_chain, posterior
from thesis_tf.gsn.finite.markov import stationary_distribution
from thesis_tf.gsn.finite.walkback import (
    WalkbackCheck,
    geometric_probabilities,
    round_frequencies,
    walkback_chain,
    walkback_corruption,
)

PROBABILITIES = {
    "one": [1.0],
    "two": [0, 1.0],
    "three": [0, 0, 1.0],
    "every of four": [0.25] * 4,
    "geometric .5": geometric_probabilities(0.5),
    "geometric .8": geometric_probabilities(0.8),
    "geometric .2": geometric_probabilities(0.2),
}


def ring(n, stay=0.6):
    """A local corruption: stays, or moves to a neighbor."""
    steps = np.roll(np.eye(n), 1, axis=1)
    return stay * np.eye(n) + (1 - stay) / 2 * (steps + steps.T)


def problem(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), ring(n), rng.dirichlet(np.full(n, 0.3), size=n)


def eigenvalues(transition):
    """Returns the eigenvalues of a reversible chain, largest first."""
    pi = stationary_distribution(transition)
    symmetric = np.sqrt(pi)[:, np.newaxis] * transition / np.sqrt(pi)
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-12)
    return np.linalg.eigvalsh(symmetric)[::-1]


def test_geometric_shares():
    probabilities = geometric_probabilities(0.5)
    np.testing.assert_allclose(probabilities[:5], 0.5 ** np.arange(1, 6), rtol=1e-15)
    assert probabilities.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(round_frequencies(probabilities), probabilities, atol=1e-16)
    np.testing.assert_array_equal(geometric_probabilities(1), [1])
    np.testing.assert_allclose(round_frequencies([0, 0, 1]), [1 / 3] * 3)
    np.testing.assert_allclose(round_frequencies([0.5, 0.5]), [2 / 3, 1 / 3])


def test_the_corruption_by_all_paths():
    corruption = np.array([[0.7, 0.3, 0], [0.2, 0.5, 0.3]])
    back = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    probabilities, expected = [0.5, 0.2, 0.3], np.zeros((2, 3))
    for rounds, probability in enumerate(probabilities, 1):
        for x in range(2):
            moves = list(itertools.product(range(3), range(2)))
            for path in itertools.product(moves, repeat=rounds - 1):
                at, chance = x, probability
                for noisy, then in path:
                    chance *= corruption[at, noisy] * back[noisy, then]
                    at = then
                expected[x] += chance * corruption[at]
    np.testing.assert_allclose(walkback_corruption(corruption, back, probabilities), expected)


def test_geometric_walkback_in_closed_form():
    _, corruption, back = problem()
    for stop in (0.3, 0.5, 0.9, 1):
        steps = np.eye(6) - (1 - stop) * corruption @ back
        expected = stop * np.linalg.solve(steps, corruption)
        found = walkback_corruption(corruption, back, geometric_probabilities(stop))
        np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("probabilities", PROBABILITIES.values(), ids=PROBABILITIES)
@pytest.mark.parametrize("start", ["posterior", "anything", "identity"])
def test_proposition_1(probabilities, start):
    data, corruption, other = problem()
    first = {"posterior": None, "anything": other, "identity": np.eye(6)}[start]
    check = walkback_chain(data, corruption, probabilities, reconstruction=first)
    assert check.applies
    assert check.distance < 1e-12
    # The reconstruction is a fixed point of training, sampled with the original corruption.
    again = posterior(data, walkback_corruption(corruption, check.reconstruction, probabilities))
    np.testing.assert_allclose(again, check.reconstruction, atol=1e-13)
    np.testing.assert_allclose(check.transition, corruption @ check.reconstruction)
    np.testing.assert_allclose(data @ check.transition, data, atol=1e-12)


def test_one_round_is_denoising():
    data, corruption, other = problem(seed=3)
    check = walkback_chain(data, corruption, [1.0], reconstruction=other)
    np.testing.assert_allclose(check.reconstruction, posterior(data, corruption))
    assert check.iterations == 2


@pytest.mark.parametrize("probabilities", PROBABILITIES.values(), ids=PROBABILITIES)
def test_from_denoising_on_each_turn_keeps_the_data(probabilities):
    data, corruption, _ = problem(seed=1)
    for turns in (1, 2, 3, 5):
        check = walkback_chain(data, corruption, probabilities, max_iterations=turns)
        assert check.distance < 1e-13


def test_from_elsewhere_the_data_are_kept_at_the_end_only():
    data, corruption, other = problem(seed=1)
    probabilities = PROBABILITIES["geometric .5"]
    distances = [
        walkback_chain(
            data, corruption, probabilities, reconstruction=other, max_iterations=turns
        ).distance
        for turns in (1, 2, 4, 8)
    ]
    assert distances[0] > 1e-2
    assert all(near < far for far, near in itertools.pairwise(distances))
    check = walkback_chain(data, corruption, probabilities, reconstruction=other, max_iterations=1)
    assert not check.converged
    assert not check.applies


@pytest.mark.parametrize("stop", [0.2, 0.5, 0.8])
def test_how_far_a_geometric_walkback_goes(stop):
    """Each eigenvalue t* of denoising's chain gives a t = t* stop / (1 - (1 - stop) t)."""
    data, corruption, _ = problem(seed=2)
    plain = eigenvalues(denoising_chain(data, corruption).transition)
    check = walkback_chain(data, corruption, geometric_probabilities(stop))
    root = np.sqrt(1 - 4 * stop * (1 - stop) * plain[1:])
    expected = (1 - root) / (2 * (1 - stop))
    np.testing.assert_allclose(eigenvalues(check.transition)[1:], expected, atol=1e-12)
    # With stop below .5, even the most local corruption doesn't make the chain slower than this.
    assert expected[0] < min(1, stop / (1 - stop))


@pytest.mark.parametrize("probabilities", [[0, 1.0], [0, 0, 1.0], [0, 0.5, 0.5]])
def test_never_a_single_round_forgets_everything(probabilities):
    data, corruption, _ = problem(seed=2)
    check = walkback_chain(data, corruption, probabilities)
    np.testing.assert_allclose(check.reconstruction, np.tile(data, (6, 1)), atol=1e-12)


def test_two_rounds_add_a_step_of_denoising_each_turn():
    data, corruption, _ = problem(seed=4)
    plain = denoising_chain(data, corruption).transition
    for turns in (1, 2, 3):
        check = walkback_chain(data, corruption, [0, 1.0], max_iterations=turns)
        power = np.linalg.matrix_power(plain, turns + 1)
        np.testing.assert_allclose(check.transition, power, atol=1e-14)


def test_without_one_round_a_periodic_chain_keeps_anything():
    """Proposition 1 isn't true for a corruption that always swaps two states."""
    data, swap = np.array([0.3, 0.7]), np.array([[0.0, 1], [1, 0]])
    check = walkback_chain(data, swap, [0, 1.0], reconstruction=np.eye(2))
    assert check.conditions == {"converged": True, "unique": False}
    np.testing.assert_array_equal(check.reconstruction, np.eye(2))
    assert check.distance == pytest.approx(0.4)
    # The posterior of a single round swaps the states back, so the state never changes.
    with pytest.raises(ValueError, match=r"2 classes: \[0\], \[1\]"):
        walkback_chain(data, swap, [0, 1.0])


def test_a_single_state():
    check = walkback_chain([1.0], [[0.5, 0.5]], geometric_probabilities(0.5))
    assert check.applies
    assert check.distance == 0


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "match"),
    [
        (([1.0], np.eye(1), []), {}, ValueError, r"`probabilities` must be of shape \(any\)"),
        (([1.0], np.eye(1), [0.5, 0.6]), {}, ValueError, r"`probabilities` must be of sum 1"),
        (([1.0], np.eye(2), [1.0]), {}, ValueError, r"`corruption` must be of shape \(1, any\)"),
        (
            ([1.0], np.eye(1), [1.0]),
            {"reconstruction": np.eye(2)},
            ValueError,
            "`reconstruction` must be of shape",
        ),
        (
            ([1.0], np.eye(1), [1.0]),
            {"max_iterations": 0},
            ValueError,
            "`max_iterations` must be",
        ),
        (([1.0], np.eye(1), [1.0]), {"tol": 0}, ValueError, "`tol` must be a positive"),
        (([0.5, 0.5], np.eye(2), [1.0]), {}, ValueError, r"2 classes: \[0\], \[1\]"),
    ],
)
def test_bad_input(arguments, keywords, error, match):
    with pytest.raises(error, match=match):
        walkback_chain(*arguments, **keywords)


def test_bad_corruptions_and_shares():
    with pytest.raises(ValueError, match=r"`stop` must be in \(0, 1\]"):
        geometric_probabilities(1.5)
    with pytest.raises(ValueError, match="`probabilities` must be finite probabilities"):
        round_frequencies([2.0, -1.0])
    with pytest.raises(ValueError, match=r"`reconstruction` must be of shape \(3, 2\)"):
        walkback_corruption(np.full((2, 3), 1 / 3), np.eye(2), [1.0])


def test_a_check_in_short():
    conditions = {"converged": True, "unique": True}
    data = np.array([0.5, 0.5])
    check = WalkbackCheck(np.eye(2), data, data, conditions, np.eye(2), np.eye(2), True, 12)
    assert check.table() == (
        "property              value\n"
        "condition: converged    yes\n"
        "condition: unique       yes\n"
        "distance                  0\n"
        "iterations               12"
    )
    assert repr(check) == (
        "WalkbackCheck(applies=yes, distance=0, states=2, converged=yes, iterations=12)"
    )
    assert json.loads(json.dumps(check.summary())) == {
        "applies": True,
        "distance": 0.0,
        "states": 2,
        "conditions": conditions,
        "converged": True,
        "iterations": 12,
    }
    assert json.dumps(walkback_chain(data, np.full((2, 2), 0.5), [1.0]).summary())
