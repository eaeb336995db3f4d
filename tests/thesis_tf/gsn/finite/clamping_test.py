import itertools
import json

import numpy as np
import pytest

from thesis_tf.gsn.finite.clamping import ClampedCheck, clamped_chain
from thesis_tf.gsn.finite.denoising import posterior
from thesis_tf.gsn.finite.latent import latent_chain
from thesis_tf.gsn.finite.markov import stationary_distribution


def random_problem(n=5, k=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.full(k, 0.5), size=(n, k))


def subsets(n):
    for mask in itertools.product([False, True], repeat=n):
        if any(mask):
            yield np.array(mask)


def given(distribution, allowed):
    return distribution * allowed / distribution[allowed].sum()


def test_the_posterior_can_be_clamped_to_any_set(roundings):
    data, hidden = random_problem()
    hidden = hidden[:, 0]
    for allowed in subsets(5):
        check = clamped_chain(hidden, posterior(data, hidden), allowed)
        assert check.applies
        # The error of the joint of 5 x 3 states, before and after another draw.
        assert check.mismatch <= 2 * roundings(15, 3)
        np.testing.assert_allclose(check.expected, given(data, allowed), atol=1e-14)
        assert check.distance <= 2 * roundings(15, 3)


def test_hidden_units_may_remember_if_proposition_2_holds():
    data, hidden = random_problem(seed=1)
    latent = latent_chain(data, hidden)
    # The chain is not reversible.
    flow = latent.joint.ravel()[:, np.newaxis] * latent.transition
    assert np.abs(flow - flow.T).max() > 1e-3
    for allowed in subsets(5):
        check = clamped_chain(hidden, latent.reconstruction, allowed)
        assert check.applies
        np.testing.assert_allclose(check.expected, given(data, allowed), atol=1e-13)
        assert check.distance < 1e-12


def test_known_and_unknown_inputs():
    """x = (a, b, c) has two values for each variable; b is observed."""
    rng = np.random.default_rng(2)
    joint = rng.dirichlet(np.ones(8)).reshape(2, 2, 2)
    hidden = rng.dirichlet(np.ones(4), size=8)
    observed = np.zeros((2, 2, 2), bool)
    observed[:, 1] = True
    check = clamped_chain(hidden, posterior(joint.ravel(), hidden), observed.ravel())
    found = check.stationary.reshape(2, 2, 2)
    np.testing.assert_allclose(found[:, 1], joint[:, 1] / joint[:, 1].sum(), atol=1e-14)
    np.testing.assert_array_equal(found[:, 0], 0)


def test_the_transition_by_enumeration():
    _, hidden = random_problem(4, 3)
    back = np.random.default_rng(3).dirichlet(np.ones(4), size=3)
    allowed = np.array([True, False, True, True])
    found = clamped_chain(hidden, back, allowed).transition
    inside = np.flatnonzero(allowed)
    for (i, x), h, (j, then), h_then in itertools.product(
        enumerate(inside), range(3), enumerate(inside), range(3)
    ):
        expected = hidden[x, h, h_then] * back[h_then, then] / back[h_then, inside].sum()
        assert found[3 * i + h, 3 * j + h_then] == pytest.approx(expected)


def test_a_reversible_chain_is_not_enough():
    """With h = x and a walk on a path, states of S that can't leave S have more weight."""
    walk = np.array([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]])
    pi = np.array([0.25, 0.5, 0.25])
    flow = pi[:, np.newaxis] * walk
    np.testing.assert_array_equal(flow, flow.T)
    allowed = np.array([True, True, False])
    check = clamped_chain(np.eye(3), walk, allowed)
    assert check.conditions == {"balanced": False}
    assert check.mismatch == pytest.approx(sum(pi * (2 - 2 * np.diag(walk))))
    np.testing.assert_allclose(check.expected, [1 / 3, 2 / 3, 0])
    # The probabilities are proportional to pi(x) P(x' in S | x).
    np.testing.assert_allclose(check.stationary, np.array([0.25, 0.375, 0]) / 0.625)
    assert check.distance == pytest.approx(2 / 15)


def test_a_chain_with_a_direction_is_not_enough():
    around = 0.2 * np.eye(3) + 0.7 * np.roll(np.eye(3), 1, 1) + 0.1 * np.roll(np.eye(3), 2, 1)
    check = clamped_chain(np.eye(3), around, np.array([True, True, False]))
    assert not check.applies
    np.testing.assert_allclose(check.expected, [0.5, 0.5, 0])
    # Two states: the chain moves from 0 to 1 with probability 7/9, and back with 1/3.
    np.testing.assert_allclose(check.stationary, [0.3, 0.7, 0])


def test_the_less_balanced_the_further():
    data, hidden = random_problem(seed=4)
    latent = latent_chain(data, hidden)
    wrong = np.random.default_rng(5).dirichlet(np.ones(5), size=3)
    allowed = np.array([True, True, False, False, True])
    far = []
    for step in (0.3, 0.03, 0.003, 3e-4, 3e-5, 3e-6):
        back = (1 - step) * latent.reconstruction + step * wrong
        check = clamped_chain(hidden, back, allowed)
        assert not check.applies
        # The expected distribution is that of the unclamped chain with this reconstruction, not the
        # data's.
        pairs = stationary_distribution(
            np.einsum("xhk,ky->xhyk", hidden, back).reshape(15, 15)
        ).reshape(5, 3)
        np.testing.assert_allclose(check.expected, given(pairs.sum(axis=1), allowed), atol=1e-14)
        far.append((check.mismatch, check.distance))
    for (mismatch, distance), (less, nearer) in itertools.pairwise(far):
        assert 7 < mismatch / less < 13
        assert 5 < distance / nearer < 15


def test_all_allowed_is_the_chain_itself(roundings):
    _, hidden = random_problem(seed=6)
    back = np.random.default_rng(6).dirichlet(np.ones(5), size=3)
    check = clamped_chain(hidden, back, np.ones(5, bool))
    assert check.distance <= 2 * roundings(15, 3)
    assert not check.applies


def test_a_single_state():
    check = clamped_chain([[1.0]], [[1.0]], [True])
    assert check.applies
    assert check.distance == 0


def test_hidden_units_that_are_never_drawn_need_lead_nowhere():
    back = np.array([[0.5, 0.5], [0, 1]])
    check = clamped_chain([[1, 0], [1, 0]], back, [True, False])
    np.testing.assert_array_equal(check.stationary, [1, 0])


@pytest.mark.parametrize(
    ("hidden", "reconstruction", "allowed", "error", "match"),
    [
        (np.eye(2), np.full((2, 2), 0.5), [0, 1], TypeError, r"booleans\. .* int64\. Convert"),
        (np.eye(2), np.full((2, 2), 0.5), [True], ValueError, r"of shape \(2,\), not all false"),
        (np.eye(2), np.full((2, 2), 0.5), [False] * 2, ValueError, "with 0 true values"),
        (np.eye(2), np.eye(3), [True] * 2, ValueError, r"`reconstruction` must be of shape \(2, 2"),
        (np.eye(2), np.eye(2), [True] * 2, ValueError, r"2 classes: \[0\], \[3\]"),
        ([[0, 1], [1, 0]], np.eye(2), [True, False], ValueError, "h = 1, for which .* is 0"),
        (np.full((2, 1), 1), [[0, 1]], [True, False], ValueError, "that the unclamped chain vis"),
    ],
)
def test_bad_input(hidden, reconstruction, allowed, error, match):
    with pytest.raises(error, match=match):
        clamped_chain(hidden, reconstruction, allowed)


def test_a_set_that_falls_apart_has_no_single_answer():
    """The two allowed states are connected only by a third one."""
    data, hidden = np.full(3, 1 / 3), np.array([[1, 0], [0.5, 0.5], [0, 1]])
    with pytest.raises(ValueError, match="2 classes"):
        clamped_chain(hidden, posterior(data, hidden), [True, False, True])


def test_a_check_in_short():
    data = np.array([0.5, 0.5])
    check = ClampedCheck(np.eye(6), data, data, {"balanced": False}, 0.25)
    assert check.table() == (
        "property             value\n"
        "condition: balanced     no\n"
        "distance                 0\n"
        "mismatch              0.25"
    )
    assert repr(check) == "ClampedCheck(applies=no, distance=0, states=6, mismatch=0.25)"
    assert json.loads(json.dumps(check.summary())) == {
        "applies": False,
        "distance": 0.0,
        "states": 6,
        "conditions": {"balanced": False},
        "mismatch": 0.25,
    }
