import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf.mcmc import Diagnostics, effective_sample_size, r_hat, random_projections
from thesis_tf.mcmc.diagnostics import diagnose


def test_diagnostics_of_known_chains():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(400, 8, 2))
    size = effective_sample_size(independent)
    assert (size > 0.7 * 3200).all()
    assert (size <= 3200).all()
    assert r_hat(independent).max() < 1.02
    # An autoregression with coefficient a has (1 - a) / (1 + a) effective samples per step.
    chain = [rng.normal(size=(8, 1))]
    for _ in range(20_000):
        chain.append(0.8 * chain[-1] + 0.6 * rng.normal(size=(8, 1)))
    expected = len(chain) * 8 / 9
    assert effective_sample_size(np.stack(chain))[0] == pytest.approx(expected, rel=0.15)
    apart = independent + 10 * np.arange(8)[:, None]
    assert r_hat(apart).min() > 5
    # Chains that stay apart have about one effective sample each.
    assert effective_sample_size(apart).max() < 16
    assert np.isnan(effective_sample_size(np.zeros((10, 8, 1)))[0])
    one = effective_sample_size(independent[:, :1])
    assert (one > 200).all()


@pytest.mark.parametrize("estimate", [effective_sample_size, r_hat])
@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros((3, 2, 1)), "with at least 4 results"),
        (np.zeros(9), "with at least 4 results"),
        (np.full((9, 2, 1), np.nan), "finite"),
    ],
)
def test_bad_input(estimate, samples, match):
    with pytest.raises(ValueError, match=match):
        estimate(samples)


def test_a_result_in_short():
    found = Diagnostics(
        np.array([4.0, 2.0, 6.0]), np.array([1.0, 1.5, 1.25]), acceptance=np.array([0.25, 0.75])
    )
    assert found.table() == (
        "diagnostic             worst  median\n"
        "effective sample size      2       4\n"
        "R-hat                    1.5    1.25\n"
        "acceptance              0.25     0.5\n"
        "The chains have not mixed: R-hat 1.5 (near 1 if they had)."
    )
    assert repr(found) == "Diagnostics(effective_sample_size=2, r_hat=1.5, acceptance=0.5)"
    unknown = Diagnostics(np.full(2, np.nan), np.full(2, np.nan))
    assert unknown.table().splitlines()[1].split()[-2:] == ["-", "-"]
    assert len(unknown.table().splitlines()) == 3
    assert json.loads(json.dumps(unknown.summary())) == {
        "effective_sample_size": None,
        "r_hat": None,
    }


def autoregression(coefficient, length=4000, chains=4, seed=0):
    noise = np.random.default_rng(seed).normal(size=(length, chains))
    chain = np.zeros_like(noise)
    for step in range(1, length):
        chain[step] = coefficient * chain[step - 1] + noise[step]
    return chain


def ess_by_definition(x):
    """Returns the effective sample size of x (n, chains), with loops and `np.correlate`."""
    n, chains = x.shape
    covariances = []
    for chain in (x - x.mean(axis=0)).T:
        whole = np.correlate(chain, chain, "full")[n - 1 :]
        covariances.append(whole / np.arange(n, 0, -1))
    covariance = np.mean(covariances, axis=0)
    variance = covariance[0] + (np.var(x.mean(axis=0), ddof=1) if chains > 1 else 0)
    total = -1.0
    for lag in range(0, n - 1, 2):
        pair = [1 - (covariance[0] - covariance[lag + i]) / variance for i in (0, 1)]
        if sum(pair) < 0:
            break
        total += 2 * sum(p * (n - lag - i) / n for i, p in enumerate(pair))
    return np.clip(chains * n / total, 1, chains * n)


def r_hat_by_definition(x):
    halves = np.array([h for chain in x.T for h in np.split(chain[: len(x) // 2 * 2], 2)])
    m, n = halves.shape
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    return (m + 1) / m * ((n - 1) / n * within + between) / within - (n - 1) / (m * n)


CHAINS = {
    "independent": lambda: autoregression(0.0, 500),
    "slow": lambda: autoregression(0.95, 501),
    "antithetic": lambda: autoregression(-0.7, 500),
    "apart": lambda: autoregression(0.5, 200) + 20 * np.array([1, 0, 0, 0]),
    "one chain": lambda: autoregression(0.5, 300, 1),
    "four results": lambda: autoregression(0.5, 4),
    "far": lambda: 1e6 + autoregression(0.3, 500),
    "large": lambda: 1e25 * autoregression(0.3, 500),
    "small": lambda: 1e-25 * autoregression(0.3, 500),
    "drift": lambda: np.arange(400.0)[:, None] + autoregression(0.3, 400),
}
ROUNDED = {  # how many of the digits of a value's variation a dtype keeps
    "float64": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float32 tensor": lambda x: tf.constant(x, tf.float32),
    "not contiguous": lambda x: np.asfortranarray(np.repeat(x, 2, axis=0))[::2],
    "read-only": lambda x: np.broadcast_to(x[..., None], (*x.shape, 1))[..., 0],
    "big-endian": lambda x: x.astype(">f8"),
}


@pytest.mark.parametrize("kind", ROUNDED)
@pytest.mark.parametrize("name", CHAINS)
def test_against_the_definitions(name, kind):
    samples = ROUNDED[kind](CHAINS[name]())
    x = np.asarray(samples, np.float64)
    assert effective_sample_size(samples) == pytest.approx(ess_by_definition(x), rel=1e-6)
    assert r_hat(samples) == pytest.approx(r_hat_by_definition(x), rel=1e-9)


def test_the_same_as_tfp():
    x = np.stack([CHAINS[name]()[:200] for name in ("independent", "slow", "apart")], axis=-1)
    size = tfp.mcmc.effective_sample_size(x, filter_beyond_positive_pairs=True, cross_chain_dims=1)
    np.testing.assert_allclose(effective_sample_size(x), np.maximum(size, 1), rtol=1e-6)
    ratio = tfp.mcmc.potential_scale_reduction(x, split_chains=True)
    np.testing.assert_allclose(r_hat(x), ratio, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float16"])
def test_discrete_values(dtype):
    samples = np.random.default_rng(0).integers(0, 2, (400, 4, 2)).astype(dtype)
    whole = samples.astype(float)
    for estimate in (effective_sample_size, r_hat):
        np.testing.assert_array_equal(estimate(samples), estimate(whole))
    many = np.repeat(samples, 20, axis=2)  # projected
    np.testing.assert_allclose(random_projections(many), random_projections(many.astype(float)))
    assert diagnose(random_projections(many)).r_hat.max() < 1.05


def test_projections_of_values_far_from_zero():
    rng = np.random.default_rng(0)
    x = (1e6 + rng.normal(size=(50, 3, 400))).astype(np.float32)
    shifted = random_projections(x) - random_projections(np.full((1, 1, 400), 1e6))
    near = random_projections(x.astype(np.float64) - 1e6)
    # Each of 400 products of float64 has an error of one rounding of a few millions.
    np.testing.assert_allclose(shifted, near, atol=400 * 4e6 * np.finfo(float).eps)


def free(*shape):
    return np.random.default_rng(1).normal(size=shape)


def with_value(value):
    samples = free(100, 4, 2)
    samples[..., 0] = value
    samples[:, 0, 1] += 20
    return samples


def with_chain(state):
    samples = free(100, 4, 2)
    samples[:, 1] = state
    return samples


OF_HALVES = np.repeat([[0.0], [1.0]], 50, axis=0)
# name: (samples, R-hat of each value, constant values, stuck chains, a part of the warnings)
UNUSUAL = {
    "a constant value hides nothing": (with_value(1), [np.nan, "large"], 1, 0, "not mixed: R-hat"),
    "a value of its own in each chain": (with_value(np.arange(4)), [np.inf, "large"], 0, 0, "inf"),
    "a value that jumps at half time": (with_value(OF_HALVES), [np.inf, "large"], 0, 0, "inf"),
    "all constant": (
        np.ones((9, 4, 2)), [np.nan, np.nan], 0, 4, "4 chains have never moved",
    ),
    "all frozen apart": (np.ones((9, 4, 1)) * np.arange(4)[:, None], [np.inf], 0, 0, "inf"),
    "one chain, frozen": (np.ones((9, 1, 1)), [np.nan], 0, 1, "1 chain has never moved"),
    "a chain stuck at the mean": (with_chain(0), [1.0, 1.0], 0, 1, "1 chain has never moved"),
    "a chain stuck far away": (with_chain(50), [1.0, 1.0], 0, 1, "1 chain has never moved"),
    "two stuck": (
        np.concatenate([free(100, 2, 1), np.zeros((100, 2, 1))], axis=1),
        [1.0], 0, 2, "2 chains have never moved",
    ),
    "three results": (free(3, 4, 1), [np.nan], 0, 0, None),
    "far and constant in float32": (
        np.full((9, 4, 1), 16777217 / 3, np.float32), [np.nan], 0, 4, "4 chains have never moved",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_constants_and_stuck_chains(name):
    samples, expected, constant, stuck, warning = UNUSUAL[name]
    found = diagnose(samples)
    for value, known in zip(found.r_hat, expected, strict=True):
        assert value > 50 if known == "large" else value == pytest.approx(known, 0.1, nan_ok=True)
    assert (found.constant_values, found.stuck_chains) == (constant, stuck)
    assert found.summary().get("constant_values", 0) == constant
    assert found.summary().get("stuck_chains", 0) == stuck
    known = found.r_hat[~np.isnan(found.r_hat)]
    assert found.summary()["r_hat"] == (known.max() if len(known) else None)
    assert np.array_equal(np.isnan(found.effective_sample_size), np.isnan(found.r_hat))
    assert bool(found.warnings()) == (warning is not None)
    if warning:
        assert any(warning in sentence for sentence in found.warnings())
        assert found.table().splitlines()[-len(found.warnings()) :] == found.warnings()
    if stuck:  # as in posterior
        assert np.isnan(r_hat(samples)).all()
        assert np.isnan(effective_sample_size(samples)).all()


def test_a_rare_value_is_no_stuck_chain():
    samples = free(100, 4, 2)
    samples[..., 0] = 0
    samples[7, 1, 0] = 1  # three chains never have it
    found = diagnose(samples)
    assert found.stuck_chains == 0
    assert found.r_hat[0] == pytest.approx(r_hat_by_definition(samples[..., 0]))


def test_no_proposal_is_accepted():
    found = diagnose(np.zeros((5, 3, 1)), acceptance=np.zeros(3))
    assert found.warnings() == ["No proposal was accepted."]


@pytest.mark.parametrize("size", [1, 1 << 14])
def test_many_chains_in_the_order_of_their_initial_points(size):
    samples = free(8, 600, 1)
    samples[:, 400:] += 10  # of another mode
    samples = np.broadcast_to(samples, (8, 600, size))
    assert np.all(diagnose(samples).r_hat > 5)
    assert diagnose(samples).warnings()
