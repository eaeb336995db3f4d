import itertools
import json

import numpy as np
import pytest

from thesis_tf.gsn.finite.denoising import denoising_chain
from thesis_tf.gsn.finite.latent import kept_hidden, latent_chain, latent_transition


def random_problem(n=4, k=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.full(k, 0.5), size=(n, k))


def test_hidden_units_that_are_kept():
    _, hidden = random_problem()
    kept = kept_hidden(hidden)
    for x in range(4):
        np.testing.assert_allclose(kept[x], np.linalg.matrix_power(hidden[x], 400)[0], rtol=1e-9)
    memoryless = hidden[:, 0]
    np.testing.assert_allclose(kept_hidden(memoryless), memoryless)


def test_the_transition_by_enumeration():
    _, hidden = random_problem()
    back = np.random.default_rng(1).dirichlet(np.ones(4), size=3)
    found = latent_transition(hidden, back)
    assert found.shape == (12, 12)
    for x, h, x_next, h_next in itertools.product(range(4), range(3), range(4), range(3)):
        expected = hidden[x, h, h_next] * back[h_next, x_next]
        assert found[3 * x + h, 3 * x_next + h_next] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 3), (5, 1), (4, 6), (12, 5)])
def test_proposition_2(n, k):
    data, hidden = random_problem(n, k, seed=n)
    check = latent_chain(data, hidden)
    assert check.conditions == {"hidden": True, "posterior": True}
    assert check.distance < 1e-12
    joint = data[:, np.newaxis] * check.initial
    np.testing.assert_allclose(check.joint, joint, atol=1e-13)
    settled = np.linalg.matrix_power(check.transition, 2000)[0].reshape(n, k)
    np.testing.assert_allclose(settled, joint, atol=1e-9)
    # X_t, H_t has this distribution from the first step on.
    np.testing.assert_allclose(joint.ravel() @ check.transition, joint.ravel(), atol=1e-14)


def test_a_denoising_auto_encoder_is_the_gsn_whose_hidden_units_are_noisy_inputs():
    data, hidden = random_problem(5, 7)
    corruption = hidden[:, 0]
    check, plain = latent_chain(data, corruption), denoising_chain(data, corruption)
    assert check.applies
    np.testing.assert_allclose(check.stationary, plain.stationary, atol=1e-14)
    # The move from x doesn't depend on h.
    moves = check.transition.reshape(5, 7, 5, 7).sum(axis=3)
    np.testing.assert_allclose(moves, np.repeat(plain.transition[:, None], 7, axis=1), atol=1e-14)


def test_without_the_hidden_condition_the_chain_drifts_away():
    data, hidden = random_problem(seed=6)
    initial = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    check = latent_chain(data, hidden, initial=initial)
    assert check.conditions == {"hidden": False, "posterior": True}
    state = (data[:, np.newaxis] * initial).ravel() @ check.transition
    np.testing.assert_allclose(state.reshape(4, 3).sum(axis=1), data, atol=1e-14)
    away = (state @ check.transition).reshape(4, 3).sum(axis=1)
    assert np.abs(away - data).sum() > 0.1
    assert check.distance > 0.1


def test_without_the_posterior_the_chain_samples_something_else():
    data, hidden = random_problem(seed=6)
    back = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
    check = latent_chain(data, hidden, reconstruction=back)
    assert check.conditions == {"hidden": True, "posterior": False}
    assert check.distance > 0.1
    exact = latent_chain(data, hidden)
    wrong = 0.999 * exact.reconstruction + 0.001 * back
    assert 0 < latent_chain(data, hidden, reconstruction=wrong).distance < check.distance / 50


def test_hidden_units_that_never_occur(roundings):
    data, hidden = np.array([0.4, 0.6]), np.array([[0.5, 0.5, 0], [0.1, 0.9, 0]])
    check = latent_chain(data, hidden)
    np.testing.assert_array_equal(check.reconstruction[2], data)
    assert check.distance <= roundings(6, 3)
    # Their reconstruction is arbitrary, and so are the hidden units of an x of probability 0.
    back = check.reconstruction.copy()
    back[2] = [1, 0]
    assert latent_chain(data, hidden, reconstruction=back).applies
    initial = np.concatenate([hidden, [[0, 0, 1]]])
    hidden, data = np.concatenate([hidden, [[1, 0, 0]]]), np.append(data, 0)
    assert latent_chain(data, hidden, initial=initial).applies


def test_hidden_units_that_keep_two_things_at_once():
    hidden = np.tile(np.eye(2), (3, 1, 1))
    with pytest.raises(ValueError, match=r"2 classes: \[0\], \[1\]"):
        latent_chain(np.full(3, 1 / 3), hidden)
    # With the right initial h the condition holds, but the chain keeps its initial h.
    initial = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    with pytest.raises(ValueError, match="2 classes"):
        latent_chain(np.full(3, 1 / 3), hidden, initial=initial)


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([0.5, 0.5], np.eye(3)), {}, r"`hidden` must be of shape \(2, any\)\. .* \(3, 3\)"),
        (([0.5, 0.5], np.full((2, 3, 2), 0.5)), {}, r"`hidden` must be of shape \(2, 2, 2\)"),
        (([0.5, 0.5], np.ones(2)), {}, r"`hidden` must be of shape \(2, 2, 2\)"),
        (([0.5, 0.5], np.float64(1)), {}, r"`hidden` must be of shape"),
        (([0.5, 0.5], np.full((2, 2, 2), 0.4)), {}, r"row 0, 0, whose sum is 0\.8"),
        (([0.5, 0.4], np.eye(2)), {}, "`data` must be of sum 1"),
        (([0.5, 0.5], np.eye(2)), {"initial": np.eye(3)}, r"`initial` must be of shape \(2, 2\)"),
        (([0.5, 0.5], np.eye(2)), {"reconstruction": np.eye(3)}, r"`reconstruction` must be of sh"),
    ],
)
def test_bad_input(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        latent_chain(*arguments, **options)


def test_a_check_in_short():
    check = latent_chain([0.5, 0.5], [[0.5, 0.5, 0], [0.5, 0, 0.5]])
    table = check.table().splitlines()
    assert table[0].split() == ["property", "value"]
    assert [line.split() for line in table[1:3]] == [
        ["condition:", "hidden", "yes"],
        ["condition:", "posterior", "yes"],
    ]
    assert table[3].startswith("distance")
    assert repr(check).startswith("LatentCheck(applies=yes, distance=")
    assert repr(check).endswith(", states=6)")
    assert json.loads(json.dumps(check.summary()))["conditions"] == check.conditions
