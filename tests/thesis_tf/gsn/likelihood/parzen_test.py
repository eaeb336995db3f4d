import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.neighbors
import tensorflow as tf

from thesis_tf.gsn.likelihood import log_mean
from thesis_tf.gsn.likelihood.parzen import parzen_log_likelihood

RNG = np.random.default_rng(11)
GRID = [0.02, 0.1, 0.3, 0.5, 0.8, 1.3, 2.0, 5.0]


def exact(samples, points, sigma):
    """Returns log p (m,) of a window on samples (n, ...), in float64."""
    samples, points = (np.reshape(x, (len(x), -1)).astype(float) for x in (samples, points))
    squares = np.square(points[:, np.newaxis] - samples).sum(axis=2)
    log_p = scipy.special.logsumexp(-squares / (2 * sigma**2), axis=1) - np.log(len(samples))
    return log_p - samples.shape[1] * np.log(sigma * np.sqrt(2 * np.pi))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4, 1)])
@pytest.mark.parametrize(("count", "points"), [(1, 1), (1, 6), (37, 1), (37, 23)])
def test_against_scipy(count, points, shape):
    samples, test, valid = (RNG.normal(size=(n, *shape)) for n in (count, points, 11))
    found = parzen_log_likelihood(samples, test, valid, sigmas=GRID)
    on_valid = [exact(samples, valid, sigma).mean() for sigma in GRID]
    np.testing.assert_allclose(found.validation_log_likelihoods, on_valid, rtol=1e-12)
    assert found.sigma == GRID[np.argmax(on_valid)]
    log_p = exact(samples, test, found.sigma)
    np.testing.assert_allclose(found.log_likelihoods, log_p, rtol=1e-12)
    assert found.log_likelihood == pytest.approx(log_p.mean(), rel=1e-12)
    if points > 1:
        error = log_p.std(ddof=1) / math.sqrt(points)
        assert found.standard_error == pytest.approx(error, rel=1e-9)
    else:
        assert math.isnan(found.standard_error)


def test_against_sklearn_in_many_dimensions():
    samples, test, valid = (RNG.normal(size=(n, 784)) for n in (150, 40, 10))
    found = parzen_log_likelihood(samples, test, valid, sigmas=0.9)
    # With smaller leaves, sklearn approximates distant samples, badly in so many dimensions.
    tree = sklearn.neighbors.KernelDensity(bandwidth=0.9, leaf_size=150).fit(samples)
    np.testing.assert_allclose(found.log_likelihoods, tree.score_samples(test), rtol=1e-12)


@pytest.mark.slow
def test_float32_is_near_float64():
    # The size and the scale are those of images of digits.
    samples = RNG.random((300, 784)) ** 3
    test = np.clip(samples[:50] + RNG.normal(size=(50, 784)) * 0.1, 0, 1)
    valid = samples[50:60] + 0.1
    double = parzen_log_likelihood(samples, test, valid, sigmas=0.2)
    single = parzen_log_likelihood(
        *(x.astype(np.float32) for x in (samples, test, valid)), sigmas=0.2
    )
    # A product of n terms errs by sqrt(n) roundings, and the exponent has |x|^2 - 2 x.s + |s|^2.
    lengths = np.linalg.norm(np.concatenate([test, samples]) - samples.mean(axis=0), axis=1)
    rounding = np.finfo(np.float32).eps / 2 * math.sqrt(784)
    bound = rounding * (2 * lengths.max()) ** 2 / (2 * 0.2**2)
    np.testing.assert_allclose(single.log_likelihoods, double.log_likelihoods, rtol=0, atol=bound)
    assert single.protocol.endswith("float32")
    assert double.protocol.endswith("float64")
    mixed = parzen_log_likelihood(samples.astype(np.float32), test, valid, sigmas=0.2)
    assert mixed.protocol.endswith("float64")


def test_far_from_the_origin():
    samples, test, valid = (RNG.normal(size=(n, 3)) for n in (80, 20, 10))
    near = parzen_log_likelihood(samples, test, valid, sigmas=GRID)
    far = parzen_log_likelihood(samples + 1000, test + 1000, valid + 1000, sigmas=GRID)
    np.testing.assert_allclose(far.log_likelihoods, near.log_likelihoods, rtol=1e-9)
    assert far.sigma == near.sigma


def test_samples_of_a_gaussian():
    # The window turns N(0, 1) into N(0, 1 + sigma^2), up to the variance of a mean of n densities.
    sigma, count = 0.5, 200_000
    samples, test = RNG.normal(size=(count, 1)), np.linspace(-2, 2, 9)[:, np.newaxis]
    found = parzen_log_likelihood(samples, test, samples[:3], sigmas=sigma).log_likelihoods
    wide = scipy.stats.norm(0, math.hypot(1, sigma))
    kernels = scipy.stats.norm.pdf(test, samples[:20_000].T, sigma)
    errors = kernels.std(axis=1) / kernels.mean(axis=1) / math.sqrt(count)
    assert (abs(found - wide.logpdf(test[:, 0])) < 5 * errors).all()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 4), (1, 6), (30, 1), (13, 7)])
def test_chains_are_pooled_and_each_alone(shape, monkeypatch):
    # Blocks of a few chains, blocks of a part of a chain, and a last block that isn't filled.
    monkeypatch.setattr(log_mean, "_BLOCK", 20)
    steps, chains = shape
    samples = RNG.normal(size=(steps, chains, 3)) * RNG.uniform(0.3, 1.5, (chains, 1))
    test, valid = RNG.normal(size=(33, 3)), RNG.normal(size=(29, 3))
    found = parzen_log_likelihood(samples, test, valid, sigmas=GRID)
    pooled = parzen_log_likelihood(samples.reshape(-1, 3), test, valid, sigmas=GRID)
    alone = [parzen_log_likelihood(s, test, valid, sigmas=GRID) for s in samples.swapaxes(0, 1)]
    assert found.sigma == pooled.sigma
    np.testing.assert_allclose(found.log_likelihoods, pooled.log_likelihoods, rtol=1e-12)
    np.testing.assert_allclose(
        found.validation_log_likelihoods, pooled.validation_log_likelihoods, rtol=1e-12
    )
    own = np.array([one.log_likelihood for one in alone])
    np.testing.assert_allclose(found.chain_log_likelihoods, own, rtol=1e-12)
    np.testing.assert_array_equal(found.chain_sigmas, [one.sigma for one in alone])
    if chains > 1:
        error = own.std(ddof=1) / math.sqrt(chains)
        assert found.chain_standard_error == pytest.approx(error, rel=1e-9)
    else:
        assert math.isnan(found.chain_standard_error)


@pytest.mark.slow
def test_grid_by_default():
    samples, test, valid = (0.02 * RNG.normal(size=(n, 4)) for n in (400, 100, 150))
    found = parzen_log_likelihood(samples.reshape(80, 5, 4), test, valid)
    # sigma is as good as that of a fine search, for all chains and for each single chain.
    fine = np.geomspace(0.002, 0.04, 150)
    for sigma, own in [
        (found.sigma, samples),
        *zip(found.chain_sigmas, samples.reshape(80, 5, 4).swapaxes(0, 1), strict=True),
    ]:
        best = max(exact(own, valid, s).mean() for s in fine)
        # At the maximum, the second derivative by log sigma is -2 d, with d = 4. So half a step
        # costs at most 4 (step / 2)^2, and 6 (step / 2)^2 if the derivative changes.
        step = math.log(found.sigmas[1] / found.sigmas[0])
        assert exact(own, valid, sigma).mean() > best - 6 * (step / 2) ** 2
    assert found.sigmas[0] < found.chain_sigmas.min()
    assert found.sigmas[-1] > found.chain_sigmas.max()
    assert "around the best of a wide grid on 150" in found.protocol
    # Other units scale sigma and the density.
    scaled = parzen_log_likelihood(100 * samples, 100 * test, 100 * valid)
    assert scaled.sigma == pytest.approx(100 * parzen_log_likelihood(samples, test, valid).sigma)


def test_one_sample_has_the_sigma_of_the_points_around_it():
    sample, test, valid = np.zeros((1, 3)), RNG.normal(size=(5, 3)), RNG.normal(size=(200, 3))
    found = parzen_log_likelihood(sample, test, valid)
    step = found.sigmas[1] / found.sigmas[0]
    assert 1 / step < found.sigma / math.sqrt(np.square(valid).mean()) < step


@pytest.mark.parametrize(("grid", "where"), [([0.1, 0.15], "above"), ([5, 9, 7], "below")])
def test_a_best_sigma_at_an_end_is_said(grid, where):
    samples, test, valid = (RNG.normal(size=(n, 2)) for n in (50, 5, 40))
    with pytest.warns(UserWarning, match=rf"at an end of the grid, and better .* {where}"):
        found = parzen_log_likelihood(samples, test, valid, sigmas=grid)
    assert f"a better one may be {where}" in found.protocol
    np.testing.assert_array_equal(found.sigmas, sorted(grid))


def test_protocol():
    samples, test, valid = (
        RNG.normal(size=s).astype(np.float32) for s in ((40, 50, 2, 2), (7, 2, 2), (60, 2, 2))
    )
    found = parzen_log_likelihood(samples, test, valid, sigmas=[0.1, 0.5, 2])
    assert found.protocol == (
        "Gaussian Parzen window: 2,000 samples (chains: 50, steps: 40), 7 test and 60 validation"
        " points of 4 values, sigma 0.5, the best on validation points of 3 in [0.1, 2], for"
        " each chain alone in [0.5, 0.5], float32"
    )
    one = parzen_log_likelihood(samples[:, 0], test, valid, sigmas=0.5)
    assert one.protocol == (
        "Gaussian Parzen window: 40 samples, 7 test and 60 validation points of 4 values, sigma"
        " 0.5, the only one, float32"
    )
    assert json.loads(json.dumps(one.summary()))["sigma"] == 0.5


def test_tensors_and_arrays_are_the_same():
    samples, test, valid = (RNG.normal(size=(n, 2)) for n in (50, 5, 40))
    array = parzen_log_likelihood(samples, test, valid, sigmas=GRID)
    tensor = parzen_log_likelihood(
        *map(tf.constant, (samples, test, valid)), sigmas=tf.constant(GRID, tf.float64)
    )
    np.testing.assert_array_equal(array.log_likelihoods, tensor.log_likelihoods)


X, Y, Z = np.zeros((5, 3)), np.ones((4, 3)), np.full((2, 3), 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[:, :2], Y, Z), r"`samples` must be of shape \(steps, chains, 3\) or \(n, 3\)"),
        ((X, Y, Z[:, :2]), r"`validation` must be points of shape \(3,\), as `test`"),
        ((X[:0], Y, Z), r"`samples` must be .* not empty"),
        ((X, Y[:0], Z), r"`test` must be at least 1 point"),
        (
            (X, Y, Z[:0]),
            r"`validation` must be at least 1 point. Received: 0. Sigma is chosen on it",
        ),
        ((X, Y, Y), r"`validation` must be other points than `test`"),
        ((X, Y, Y.astype(np.float32)), r"`validation` must be other points than `test`"),
        ((X * np.nan, Y, Z), r"`samples` must be finite"),
        ((X, Y * np.inf, Z), r"`test` must be finite"),
        ((X, Y, Z * np.nan), r"`validation` must be finite"),
        ((X, Y, Z, 0), r"`sigmas` must be positive numbers"),
        ((X, Y, Z, [0.1, -1]), r"`sigmas` must be positive numbers"),
        ((X, Y, Z, [0.1, np.nan]), r"`sigmas` must be positive numbers"),
        ((X, Y, Z, []), r"`sigmas` must be positive numbers, at least one"),
        ((X, Y, Z, [[0.1]]), r"`sigmas` must be positive numbers"),
        ((X, Y, X[:2]), r"`samples` and `validation` must be different .* Pass `sigmas`"),
    ],
)
def test_bad_values(arguments, message):
    *data, sigmas = arguments if len(arguments) == 4 else (*arguments, None)
    with pytest.raises(ValueError, match=message):
        parzen_log_likelihood(*data, sigmas=sigmas)


def test_bad_types():
    for arguments in ((X.astype(int), Y, Z), (X, Y.astype(int), Z), (X, Y, Z.astype(bool))):
        with pytest.raises(TypeError, match=r"must be of a floating dtype"):
            parzen_log_likelihood(*arguments)
