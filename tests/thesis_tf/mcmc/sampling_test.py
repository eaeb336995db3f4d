import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from models.gsn import walkback_dae
from thesis_tf import corruption
from thesis_tf.gsn import GSN, State
from thesis_tf.gsn.finite import occupation_covariance, stationary_distribution
from thesis_tf.mcmc import (
    Chains,
    FunctionKernel,
    MaskClamp,
    r_hat,
    sample_chain,
    stream_seed,
    transition_kernels,
)
from thesis_tf.mcmc.folders import ChainFolder

# All states of three binary pixels.
STATES = np.array(list(itertools.product([0, 1], repeat=3)), np.float32)
NOISE = corruption.SaltAndPepper(0.5)


def tiny():
    """Returns an auto-encoder of three pixels with weights that make them dependent."""
    model = walkback_dae((3,), units=4, activation="tanh", corruption=NOISE, walkback=1)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def enumerated(model, clamp=None):
    """Returns the transition matrix over all states: the sum of C(x~ | x) P(x' | x~)."""
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


@pytest.mark.slow
@pytest.mark.parametrize("clamped", [False, True])
def test_visits_are_those_of_the_enumerated_chain(clamped):
    model = tiny()
    clamp = MaskClamp(np.array([False, True, False]), STATES[2]) if clamped else None
    chains, steps = 400, 250
    start = np.repeat(STATES[2:3], chains, 0)
    found = sample_chain(
        model.transition_kernel(), start, steps, seed=7, num_burnin_steps=20, clamp=clamp
    )
    matrix = enumerated(model, clamp)
    expected = stationary_distribution(matrix)
    error = np.sqrt(np.diag(occupation_covariance(matrix, steps)) / chains)
    assert (np.abs(shares(found.samples) - expected) < 5 * error + 1e-12).all()
    if clamped:
        assert (found.samples[..., 1] == 1).all()
        assert np.abs(stationary_distribution(enumerated(model)) - expected).sum() > 0.1
    else:
        assert (expected > 0.001).all()


@pytest.mark.slow
def test_what_is_kept_has_no_influence_on_the_chain():
    model, start = tiny(), STATES
    kernel, seed = model.transition_kernel(), stream_seed(3, 4)
    every = sample_chain(kernel, start, 12, seed=seed)
    fewer = sample_chain(kernel, start, 4, num_steps_between_results=2, seed=seed)
    assert fewer.samples.shape == (4, 8, 3)
    again = sample_chain(kernel, start, 12, seed=seed)
    np.testing.assert_array_equal(every.samples, again.samples)
    assert (sample_chain(kernel, start, 12, seed=4).samples != every.samples).any()
    means = sample_chain(kernel, start, 12, seed=seed, output_fn=kernel.mean)
    raw = sample_chain(kernel, start, 12, seed=seed, output_fn=kernel.distribution_parameters)
    np.testing.assert_allclose(means.samples, tf.sigmoid(raw.samples), rtol=1e-6)
    np.testing.assert_array_equal(raw.final_state.x, every.final_state.x)


def test_chains_go_on_from_their_final_state():
    model = GSN([5, 4, 3], noise=0.5, corruption=NOISE)
    model.build((None, 3))
    chains = sample_chain(model.transition_kernel(), STATES, 7, seed=1)
    np.testing.assert_array_equal(chains.final_state.x, chains.samples[-1])
    assert isinstance(chains.final_state, State)
    more = sample_chain(model.transition_kernel(), chains.final_state, 3, seed=2)
    assert more.samples.shape == (3, 8, 3)
    assert (
        more.samples != sample_chain(model.transition_kernel(), STATES, 3, seed=2).samples
    ).any()


def test_a_function_can_be_a_kernel():
    def walk(x, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)

    start = np.zeros((2000, 2))
    chains = sample_chain(FunctionKernel(walk), start, 30, jit_compile=True)
    assert isinstance(chains, Chains)
    assert chains.samples.dtype == np.float64
    variance = chains.samples.var(axis=1)
    expected = np.arange(1, 31)[:, None] * np.ones(2)
    np.testing.assert_allclose(variance, expected, rtol=5 * (2 / 2000) ** 0.5)

    def counted(state, seed):
        return walk(state[0], seed), state[1] + 1

    found = sample_chain(
        FunctionKernel(counted), (start, np.zeros(2000, np.int32)), 30, num_burnin_steps=5
    )
    assert (found.final_state[1].numpy() == 35).all()


def test_diagnostics_are_of_summary_statistics():
    model = tiny()
    start = np.repeat(STATES, 4, 0)
    by_value = sample_chain(model.transition_kernel(), start, 200).diagnostics
    assert by_value.r_hat.shape == (3,)
    assert by_value.r_hat.max() < 1.1
    assert by_value.acceptance is None
    one = sample_chain(
        model.transition_kernel(), start, 200, statistics=lambda s: s.sum(axis=-1, keepdims=True)
    )
    assert one.diagnostics.effective_sample_size.shape == (1,)
    images = np.zeros((2, 5, 5, 1), np.float32)
    still = sample_chain(FunctionKernel(lambda x, seed: x), images, 5)
    assert still.diagnostics.r_hat.shape == (17,)


@pytest.mark.slow
def test_a_folder_keeps_what_is_done(tmp_path, monkeypatch):
    model = GSN([5, 4], noise=0.5, corruption=NOISE)
    model.build((None, 3))
    kernel = model.transition_kernel()
    arguments = (kernel, STATES, 45)
    kept = {"num_burnin_steps": 3, "output_fn": kernel.distribution_parameters}
    whole = sample_chain(*arguments, **kept, seed=3)
    options = {**kept, "folder": tmp_path, "seed": 3}
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
        sample_chain(*arguments, **{**options, "seed": 4})
    with pytest.raises(ValueError, match="holds chains of another output"):
        sample_chain(*arguments, num_burnin_steps=3, seed=3, folder=tmp_path)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    with pytest.raises(ValueError, match="holds chains of another weights, model"):
        sample_chain(*arguments, **options)


def test_a_folder_tells_functions_of_one_name_apart(tmp_path):
    model = GSN([5, 4], noise=0.5, corruption=NOISE)
    model.build((None, 3))
    first, second = (lambda state, k=k: k * transition_kernels.visible(state) for k in (1.0, 2.0))
    assert first.__qualname__ == second.__qualname__
    arguments = (model.transition_kernel(), STATES, 4)
    sample_chain(*arguments, output_fn=first, folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds chains of another weights, output\."):
        sample_chain(*arguments, output_fn=second, folder=tmp_path)


class Held:
    """Where a step may keep a number: in a variable, a tensor, an array or a closure."""

    def variable(value):
        held = tf.Variable(np.float64(value))
        return lambda x, seed: x * held

    def tensor(value):
        held = tf.constant(np.float64(value))
        return lambda x, seed: x * held

    def array(value):
        held = np.full((2, 2), value)
        return lambda x, seed: tf.linalg.matmul(x, held)

    def number(value):
        return lambda x, seed: x * value

    def loop(value):
        return lambda x, seed: tf.while_loop(
            lambda i, _: i < 2, lambda i, y: (i + 1, y * value), (0, x)
        )[1]


@pytest.mark.parametrize("place", ["variable", "tensor", "array", "number", "loop"])
def test_a_folder_knows_its_model_to_the_last_digit(place, tmp_path):
    def sample(value):
        kernel = FunctionKernel(getattr(Held, place)(value))
        return sample_chain(kernel, np.ones((3, 2)), 4, folder=tmp_path).samples

    first = sample(0.5)
    np.testing.assert_array_equal(sample(0.5), first)
    with pytest.raises(ValueError, match=r"holds chains of another weights\."):
        sample(0.5 + 1e-12)


def test_scaling_factors_of_a_chain():
    model = walkback_dae((3,), units=4, corruption=None, walkback=3, scaling=True)
    model.log_alpha.assign([-9.0, -9.0])
    outputs = 4 * np.ones(3)
    model.network.layers[-2].set_weights([np.zeros((4, 3)), outputs])
    start = np.zeros((3000, 3), np.float32)
    first = sample_chain(model.transition_kernel(), start, 1).samples.mean()
    mixed = sample_chain(model.transition_kernel(alpha="random"), start, 1).samples.mean()
    certain = 1 / (1 + np.exp(-4))
    assert first == pytest.approx(certain, abs=5 * 0.5 / 9000**0.5)
    # alpha is 1 for one of three chains and almost 0 for the others, where pixels are fair coins.
    # The values of a chain share its alpha, so the sample size is the number of chains.
    assert mixed == pytest.approx((certain + 1) / 3, abs=5 * 0.5 / 3000**0.5)


@pytest.mark.slow
def test_kernels_of_tensorflow_probability():
    """The kernel adapts its step size, so its results are passed from piece to piece."""
    normal = tfp.distributions.MultivariateNormalDiag(tf.zeros(2, tf.float64), [1.0, 3.0])
    kernel = tfp.mcmc.SimpleStepSizeAdaptation(
        tfp.mcmc.HamiltonianMonteCarlo(normal.log_prob, np.float64(0.2), num_leapfrog_steps=3),
        num_adaptation_steps=200,
    )
    start = np.zeros((300, 2))
    options = {"num_burnin_steps": 200, "num_steps_between_results": 1, "seed": 5}
    chains = sample_chain(kernel, start, 60, **options)
    # With the first step size almost all proposals are accepted.
    assert 0.5 < chains.acceptance < 0.95
    spread = chains.samples.std(axis=(0, 1))
    np.testing.assert_allclose(spread, [1, 3], rtol=5 / (2 * 300) ** 0.5)
    assert r_hat(chains.samples).max() < 1.2


def test_it_draws_what_tensorflow_probability_draws():
    """One piece without burn-in is the same as one call of `tfp.mcmc.sample_chain`."""
    normal = tfp.distributions.Normal(np.float64(0), 1)
    kernel = tfp.mcmc.RandomWalkMetropolis(lambda x: tf.reduce_sum(normal.log_prob(x), -1))
    start = np.zeros((30, 2))
    ours = sample_chain(kernel, start, 1, num_steps_between_results=11, seed=9)
    theirs = tfp.mcmc.sample_chain(
        1,
        tf.constant(start),
        kernel=kernel,
        num_burnin_steps=11,
        trace_fn=None,
        seed=tf.random.experimental.stateless_fold_in([0, 9], 0),
    )
    np.testing.assert_array_equal(ours.samples, theirs)


@pytest.mark.slow
def test_a_chain_of_adapted_steps_continues_after_a_kill(tmp_path, monkeypatch):
    normal = tfp.distributions.Normal(np.float64(0), 1)
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(
        tfp.mcmc.HamiltonianMonteCarlo(
            lambda x: tf.reduce_sum(normal.log_prob(x), -1), np.float64(0.1), num_leapfrog_steps=2
        ),
        num_adaptation_steps=30,
    )
    arguments, options = (kernel, np.ones((4, 2)), 40), {"num_burnin_steps": 3, "seed": 1}
    whole = sample_chain(*arguments, **options)
    write = ChainFolder.write

    def killed(self, number, arrays):
        if number == 7:
            raise KeyboardInterrupt
        write(self, number, arrays)

    monkeypatch.setattr(ChainFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        sample_chain(*arguments, **options, folder=tmp_path)
    monkeypatch.setattr(ChainFolder, "write", write)
    again = sample_chain(*arguments, **options, folder=tmp_path)
    np.testing.assert_array_equal(again.samples, whole.samples)
    assert again.acceptance == whole.acceptance


def test_streams_of_a_seed():
    def draw(x, seed):
        return tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)

    def first(seed):
        return sample_chain(FunctionKernel(draw), np.zeros((1, 3)), 1, seed=seed).samples[0]

    assert stream_seed(0, 7) == 7
    by_pair = tf.random.experimental.stateless_fold_in([3, 2], 0)
    by_pair = tf.random.experimental.stateless_fold_in(by_pair, 0)
    expected = tf.random.stateless_normal([1, 3], by_pair, dtype=tf.float64)
    np.testing.assert_array_equal(first(stream_seed(3, 2)), expected)
    assert (first(3) != first(stream_seed(3, 0))).all()
    for seed, stream, error in ((-1, 0, ValueError), (0, 1 << 32, ValueError), (0.5, 0, TypeError)):
        with pytest.raises(error):
            stream_seed(seed, stream)


@pytest.mark.parametrize(
    ("start", "options", "error", "match"),
    [
        (STATES, {"num_results": 0}, ValueError, "`num_results` must be a positive integer"),
        (STATES, {"num_steps_between_results": -1}, ValueError, "`num_steps_between_results`"),
        (STATES, {"num_burnin_steps": -1}, ValueError, "`num_burnin_steps`"),
        (STATES, {"num_burnin_steps": 0.5}, TypeError, "`num_burnin_steps`"),
        (STATES, {"seed": 0.5}, TypeError, "`seed` must be a non-negative integer"),
        (STATES, {"seed": 1 << 64}, ValueError, "`seed` must be below"),
        (STATES, {"verbose": "loud"}, ValueError, "`verbose`"),
        (STATES * np.nan, {}, ValueError, "finite"),
        (STATES[:0], {}, ValueError, "with at least one chain"),
        (STATES, {"clamp": 3}, TypeError, "`clamp` must be a function"),
        (STATES, {"clamp": lambda x: x + 1}, ValueError, "a projection"),
        (STATES, {"clamp": lambda x: x[:1]}, ValueError, "a function that keeps"),
    ],
)
def test_bad_input(start, options, error, match):
    with pytest.raises(error, match=match):
        sample_chain(tiny().transition_kernel(), start, **{"num_results": 5, **options})


@pytest.mark.parametrize(
    ("kernel", "options", "error", "match"),
    [
        (3, {}, TypeError, r"`kernel` must be a tfp.mcmc.TransitionKernel"),
        (lambda x, seed: x, {}, TypeError, r"FunctionKernel\(function\)"),
        (FunctionKernel(lambda x, seed: x[:, :2]), {}, ValueError, "like that before"),
        (FunctionKernel(lambda x, seed: x / 0), {}, ValueError, "diverged"),
        (
            tfp.mcmc.RandomWalkMetropolis(lambda x: -tf.reduce_sum(x**2, -1)),
            {"clamp": MaskClamp(np.ones(3, bool), np.ones(3, np.float32))},
            ValueError,
            "`clamp` must be None for a kernel with results",
        ),
    ],
)
def test_bad_kernels(kernel, options, error, match):
    with pytest.raises(error, match=match):
        sample_chain(kernel, tf.ones((2, 3)), 5, **options)


def test_statistics_of_other_chains():
    kernel = FunctionKernel(lambda x, seed: x + 1)
    with pytest.raises(ValueError, match=r"`statistics` must be of shape \(5, 3, \.\.\.\)"):
        sample_chain(kernel, np.zeros((3, 2)), 5, statistics=lambda samples: samples[:, :1])
