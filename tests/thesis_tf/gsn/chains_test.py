import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.gsn import walkback_dae
from thesis_tf import corruption
from thesis_tf.gsn import (
    GSN,
    Chains,
    MaskClamp,
    State,
    occupation_covariance,
    sample_chain,
    stationary_distribution,
)
from thesis_tf.mcmc.pieces import ChainFolder

# All states of three binary pixels.
STATES = np.array(list(itertools.product([0, 1], repeat=3)), np.float32)
NOISE = corruption.SaltAndPepper(0.5)


def tiny():
    """An auto-encoder of three pixels with weights that make them depend on one another."""
    model = walkback_dae((3,), 4, activation="tanh", corruption=NOISE, walkback=1)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def enumerated(model, clamp=None):
    """The transition matrix over all states: sum of C(x~ | x) P(x' | x~)."""
    n = len(STATES)
    corrupt = np.stack([NOISE.log_prob(STATES, np.repeat(s[None], n, 0)) for s in STATES])
    _, outputs = model.update(STATES, None)
    reconstruct = np.exp(model.reconstruction.pairwise_log_prob(outputs, STATES))
    matrix = np.exp(corrupt.astype(np.float64)) @ reconstruct.astype(np.float64)
    if clamp is not None:
        to = [int(np.argmax((s == STATES).all(axis=1))) for s in clamp(STATES).numpy()]
        matrix = np.stack([np.bincount(to, row, n) for row in matrix])
    return matrix / matrix.sum(axis=1, keepdims=True)


def shares(samples):
    numbers = (samples @ [4, 2, 1]).astype(int)
    return np.bincount(numbers.ravel(), minlength=8) / numbers.size


@pytest.mark.parametrize("clamped", [False, True])
def test_visits_are_those_of_the_enumerated_chain(clamped):
    model = tiny()
    clamp = MaskClamp(np.array([False, True, False]), STATES[2]) if clamped else None
    chains, steps = 400, 250
    start = np.repeat(STATES[2:3], chains, 0)
    found = sample_chain(model.transition(), start, steps, 7, burn_in=20, clamp=clamp)
    matrix = enumerated(model, clamp)
    expected = stationary_distribution(matrix)
    error = np.sqrt(np.diag(occupation_covariance(matrix, steps)) / chains)
    assert (np.abs(shares(found.samples) - expected) < 5 * error + 1e-12).all()
    if clamped:
        assert (found.samples[..., 1] == 1).all()
        assert np.abs(stationary_distribution(enumerated(model)) - expected).sum() > 0.1
    else:
        assert (expected > 0.001).all()


def test_what_is_kept_has_no_influence_on_the_chain():
    model, start = tiny(), STATES
    every = sample_chain(model.transition(), start, 12, (3, 4))
    thinned = sample_chain(model.transition(), start, 12, (3, 4), thin=3)
    assert thinned.samples.shape == (4, 8, 3)
    again = sample_chain(model.transition(), start, 12, (3, 4))
    np.testing.assert_array_equal(every.samples, again.samples)
    assert (sample_chain(model.transition(), start, 12, 4).samples != every.samples).any()
    means = sample_chain(model.transition(), start, 12, (3, 4), output="mean")
    raw = sample_chain(model.transition(), start, 12, (3, 4), output="parameters")
    np.testing.assert_allclose(means.samples, tf.sigmoid(raw.samples), rtol=1e-6)
    np.testing.assert_array_equal(raw.final_state.x, every.final_state.x)


def test_chains_go_on_from_their_final_state():
    model = GSN([5, 4, 3], noise=0.5, corruption=NOISE)
    model.build((None, 3))
    chains = sample_chain(model.transition(), STATES, 7, 1)
    np.testing.assert_array_equal(chains.final_state.x, chains.samples[-1])
    assert isinstance(chains.final_state, State)
    more = sample_chain(model.transition(), chains.final_state, 3, 2)
    assert more.samples.shape == (3, 8, 3)
    assert (more.samples != sample_chain(model.transition(), STATES, 3, 2).samples).any()


def test_any_function_is_a_transition():
    def walk(x, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)

    start = np.zeros((2000, 2))
    chains = sample_chain(walk, start, 30, 0, jit_compile=True)
    assert isinstance(chains, Chains)
    assert chains.samples.dtype == np.float64
    variance = chains.samples.var(axis=1)
    expected = np.arange(1, 31)[:, None] * np.ones(2)
    np.testing.assert_allclose(variance, expected, rtol=5 * (2 / 2000) ** 0.5)

    def counted(state, seed):
        return walk(state[0], seed), state[1] + 1

    found = sample_chain(counted, (start, np.zeros(2000, np.int32)), 30, 0, burn_in=5)
    assert (found.final_state[1].numpy() == 35).all()


def test_diagnostics_are_of_summary_statistics():
    model = tiny()
    start = np.repeat(STATES, 4, 0)
    by_value = sample_chain(model.transition(), start, 200, 0).diagnostics
    assert by_value.r_hat.shape == (3,)
    assert by_value.r_hat.max() < 1.1
    assert by_value.acceptance is None
    one = sample_chain(
        model.transition(), start, 200, 0, statistics=lambda s: s.sum(axis=-1, keepdims=True)
    )
    assert one.diagnostics.effective_sample_size.shape == (1,)
    images = np.zeros((2, 5, 5, 1), np.float32)
    still = sample_chain(lambda x, seed: x, images, 5, 0)
    assert still.diagnostics.r_hat.shape == (17,)


def test_a_folder_keeps_what_is_done(tmp_path, monkeypatch):
    model = GSN([5, 4], noise=0.5, corruption=NOISE)
    model.build((None, 3))
    arguments = (model.transition(), STATES, 45, 3)
    whole = sample_chain(*arguments, burn_in=3, output="parameters")
    options = {"burn_in": 3, "folder": tmp_path, "output": "parameters"}
    write, written = ChainFolder.write, []

    def killed(self, number, arrays):
        if number == 4:
            raise KeyboardInterrupt
        write(self, number, arrays)
        written.append(number)

    monkeypatch.setattr(ChainFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        sample_chain(*arguments, **options)
    monkeypatch.setattr(ChainFolder, "write", write)
    assert written == [0, 1, 2, 3]
    for _ in range(2):
        again = sample_chain(*arguments, **options)
        np.testing.assert_array_equal(again.samples, whole.samples)
        for a, b in zip(
            tf.nest.flatten(again.final_state), tf.nest.flatten(whole.final_state), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="holds chains of another seed"):
        sample_chain(model.transition(), STATES, 45, 4, **options)
    with pytest.raises(ValueError, match="holds chains of another output"):
        sample_chain(*arguments, burn_in=3, folder=tmp_path)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    with pytest.raises(ValueError, match="holds chains of another transition"):
        sample_chain(*arguments, **options)


def test_scaling_factors_of_a_chain():
    model = walkback_dae((3,), 4, corruption=None, walkback=3, scaling=True)
    model.log_alpha.assign([-9.0, -9.0])
    outputs = 4 * np.ones(3)
    model.network.layers[-2].set_weights([np.zeros((4, 3)), outputs])
    start = np.zeros((3000, 3), np.float32)
    first = sample_chain(model.transition(), start, 1, 0).samples.mean()
    mixed = sample_chain(model.transition("all"), start, 1, 0).samples.mean()
    certain = 1 / (1 + np.exp(-4))
    assert first == pytest.approx(certain, abs=5 * 0.5 / 9000**0.5)
    # Of one chain in three alpha is 1, of the others almost 0: a toss of a coin. A chain's values
    # share its alpha, so the sample size is that of the chains.
    assert mixed == pytest.approx((certain + 1) / 3, abs=5 * 0.5 / 3000**0.5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((STATES, 0, 0), {}, ValueError, "`num_steps` must be a positive integer"),
        ((STATES, 5, 0), {"thin": 6}, ValueError, "`num_steps` must be at least `thin`"),
        ((STATES, 5, 0), {"burn_in": -1}, ValueError, "`burn_in`"),
        ((STATES, 5, 0.5), {}, TypeError, "`seed` must be an integer"),
        ((STATES * np.nan, 5, 0), {}, ValueError, "finite"),
        ((STATES[:0], 5, 0), {}, ValueError, "with a chain at least"),
        ((STATES, 5, 0), {"output": "draw"}, ValueError, "`output` must be one of"),
        ((STATES, 5, 0), {"clamp": 3}, TypeError, "`clamp` must be a function"),
        ((STATES, 5, 0), {"clamp": lambda x: x + 1}, ValueError, "a projection"),
        ((STATES, 5, 0), {"clamp": lambda x: x[:1]}, ValueError, "a function that keeps"),
    ],
)
def test_bad_input(arguments, options, error, match):
    with pytest.raises(error, match=match):
        sample_chain(tiny().transition(), *arguments, **options)


@pytest.mark.parametrize(
    ("transition", "options", "error", "match"),
    [
        (3, {}, TypeError, r"`transition` must be a function \(state, seed\)"),
        (lambda x, seed: x[:, :2], {}, ValueError, "a state like that before"),
        (lambda x, seed: x, {"output": "mean"}, ValueError, "a transition that is not a network's"),
        (lambda x, seed: x / 0, {}, ValueError, "diverged"),
    ],
)
def test_bad_transitions(transition, options, error, match):
    with pytest.raises(error, match=match):
        sample_chain(transition, tf.ones((2, 3)), 5, 0, **options)
