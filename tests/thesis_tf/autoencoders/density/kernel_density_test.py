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


def exact(data, x, sigma):
    """Returns log p and the score by direct differences in extended precision."""
    data, x = (np.asarray(a, np.longdouble).reshape(len(a), -1) for a in (data, x))
    exponents = -np.square((x[:, None] - data) / np.longdouble(sigma)).sum(axis=2) / 2
    top = exponents.max(axis=1, keepdims=True)
    p = np.exp(exponents - top)
    size = data.shape[1]
    log_p = np.log(p.mean(axis=1)) + top[:, 0] - size * np.log(sigma * np.sqrt(2 * np.pi))
    mean = p @ data / p.sum(axis=1, keepdims=True)
    return log_p.astype(float), ((mean - x) / np.longdouble(sigma) ** 2).astype(float)


def clusters(size, extent, width):
    centers = np.repeat([[-extent], [extent]], 30, axis=0)
    return centers + width * np.random.default_rng(0).normal(size=(60, size))


def normal(size, offset=0.0, scale=1.0):
    return offset + scale * np.random.default_rng(0).normal(size=(60, size))


HARD = {
    "sigma .01": (normal(2), 0.01),
    "sigma .001": (normal(2), 0.001),
    "sigma 1e-5": (normal(2), 1e-5),
    "784 values, sigma .001": (normal(784), 0.001),
    "clusters": (clusters(2, 100, 0.01), 0.01),
    "clusters, 100 values": (clusters(100, 1e4, 0.1), 0.1),
    "far from zero": (normal(3, 1e4), 0.01),
    "tiny values": (normal(2, 0, 1e-20), 1e-21),
    "large values": (normal(2, 0, 1e15), 1e13),
    "one example": (normal(2)[:1], 0.1),
    "equal examples": (np.ones((5, 2)), 0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HARD)
def test_against_direct_differences(name, dtype):
    data, sigma = HARD[name]
    data = data.astype(dtype)
    x = np.concatenate([data[:3], (data[:3] + 2 * sigma).astype(dtype)])
    found = KernelDensity(data, sigma)
    log_p, score = exact(data, x, sigma)
    extent = np.abs(data - data.mean(axis=0)).max() * data.shape[1] ** 0.5 / sigma
    # Rounding of squares in float64, then of the result.
    rounding = 8 * np.finfo(float).eps * max(1, extent) ** 2
    digits = 4 * np.finfo(dtype).eps
    assert found.log_prob(x).dtype == found.score(x).dtype == dtype
    np.testing.assert_allclose(found.log_prob(x), log_p, rtol=digits, atol=rounding)
    # An error of an exponent by e moves the mean by at most e times the extent.
    atol = (rounding + digits) * max(1, extent) / sigma
    np.testing.assert_allclose(found.score(x), score, rtol=digits, atol=atol)
    r = np.asarray(x + sigma**2 * score, float)
    np.testing.assert_allclose(
        found.reconstruct(x), r, rtol=digits, atol=sigma**2 * atol + digits * abs(r).max()
    )


def test_a_sigma_beyond_the_digits_of_float64():
    with pytest.raises(ValueError, match=r"`sigma` must be above .* which extend over"):
        KernelDensity(normal(2), 1e-8)
