import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from thesis_tf.autoencoders import KernelDensity, ScoreEstimator
from thesis_tf.autoencoders.density import kernel_density

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_against_scipy(size):
    data, x, sigma = RNG.normal(size=(40, size)), RNG.normal(size=(7, size)), 0.4
    found = KernelDensity(data, sigma)
    normal = scipy.stats.multivariate_normal(np.zeros(size), sigma**2)
    p = np.stack([normal.pdf(point - data).reshape(-1) for point in x])
    np.testing.assert_allclose(found.log_prob(x), np.log(p.mean(axis=1)), rtol=1e-12)
    mean = p @ data / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.reconstruct(x), mean, atol=1e-12)
    np.testing.assert_allclose(found.score(x), (mean - x) / sigma**2, atol=1e-11)


def test_no_function_denoises_better():
    data, sigma = RNG.normal(size=(30, 2)), 0.5
    best = KernelDensity(data, sigma).reconstruct
    clean = np.repeat(data, 4000, axis=0)
    noisy = clean + sigma * RNG.normal(size=clean.shape)
    losses = {
        name: np.square(np.asarray(r(tf.constant(noisy))) - clean).sum(axis=1)
        for name, r in {
            "best": best,
            "shrunk": lambda x: 0.8 * x,
            "more": lambda x: best(x) * 1.05,
        }.items()
    }
    for other in ("shrunk", "more"):
        gain = losses[other] - losses["best"]
        assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5


@pytest.mark.slow
def test_blocks_make_no_difference(monkeypatch):
    data, x = RNG.normal(size=(50, 3)), RNG.normal(size=(23, 3))
    whole = KernelDensity(data, 0.3)
    monkeypatch.setattr(kernel_density, "_BLOCK_ELEMENTS", 250)
    blocks = KernelDensity(data, 0.3)
    np.testing.assert_allclose(blocks.score(x), whole.score(x), rtol=1e-12)
    np.testing.assert_allclose(blocks.log_prob(x), whole.log_prob(x), rtol=1e-12)
    compiled = tf.function(blocks.score, input_signature=[tf.TensorSpec([None, 3], tf.float64)])
    np.testing.assert_allclose(compiled(x), whole.score(x), rtol=1e-12)


def test_it_is_a_reconstruction_function_of_images():
    data = RNG.normal(size=(9, 4, 4, 1)).astype(np.float32)
    # sigma is as large as the data; otherwise derivatives at isolated points would be 1 - 1.
    estimator = ScoreEstimator(KernelDensity(data, 2.0).reconstruct, sigma=2.0)
    assert estimator.score(data).shape == data.shape
    # Each of 16 x 16 derivatives of order 1 has an error of a few roundings.
    rounding = 16 * 16 * np.finfo(np.float32).eps
    assert np.max(estimator.conservativity(data)) < rounding


def test_small_noise_far_from_the_origin_keeps_its_digits():
    data = 100 + 0.05 * RNG.normal(size=(200, 2))
    x = data[:20] + 0.01 * RNG.normal(size=(20, 2))
    exact = KernelDensity(data, 0.01).score(x)
    single = KernelDensity(data.astype(np.float32), 0.01).score(x.astype(np.float32))
    # Rounding x to float32 has an error of 4e-6, times a curvature of up to 1e4.
    assert abs(single - exact).max() < 0.2
    assert abs(exact).max() > 50


def test_bad_input():
    with pytest.raises(ValueError, match="`sigma`"):
        KernelDensity(np.zeros((2, 2)), 0)
    with pytest.raises(ValueError, match="`data` must be finite"):
        KernelDensity(np.full((2, 2), np.nan), 1)
    with pytest.raises(ValueError, match="`data` must be at least 1 point"):
        KernelDensity(np.zeros((0, 2)), 1)
    density = KernelDensity(np.zeros((3, 2)), 1)
    for x in (np.zeros((4, 2), np.float32), np.zeros((4, 1))):
        with pytest.raises(ValueError, match="as `data`"):
            density.log_prob(x)
    with pytest.raises(TypeError, match="`data` must be of a floating"):
        KernelDensity(np.zeros((2, 2), int), 1)
