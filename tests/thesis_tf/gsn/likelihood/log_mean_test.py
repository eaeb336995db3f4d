import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from thesis_tf.gsn.likelihood import log_mean

RNG = np.random.default_rng(5)


def product(samples, points):
    return tf.matmul(samples, points, transpose_b=True)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 8, 17, 29, 47])
@pytest.mark.parametrize("chains", [1, 5])
def test_against_scipy(chains, steps, monkeypatch):
    # 29 and 47 steps in blocks of 12 have a padded last block, as has the last group of chains; 17
    # and 47 are not multiples of the number of terms that are added at once.
    for block in (2000, 12):
        monkeypatch.setattr(log_mean, "_BLOCK", block)
        samples, points = RNG.normal(size=(chains, steps, 3)), RNG.normal(size=(7, 3))
        scales = RNG.uniform(0.1, 50, (chains, 2))
        found = log_mean.SampleBlocks(tf.constant(samples)).log_mean_exp(
            product, tf.constant(points), scales
        )
        exponents = np.einsum("ck,ctd,md->ckmt", scales, samples, points)
        exact = scipy.special.logsumexp(exponents, axis=3) - np.log(steps)
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12)


def test_large_exponents_neither_overflow_nor_vanish():
    samples = tf.constant([[[1e4], [-1e4], [0.0]]], tf.float32)
    points = tf.constant([[1.0], [-1.0], [0.0]], tf.float32)
    found = log_mean.SampleBlocks(samples).log_mean_exp(product, points, [[1.0, 1e4]])
    # Only the logarithm of a sum of three has the precision of float32, 1e-7.
    for largest, row in zip((1e4, 1e8), found[0], strict=True):
        np.testing.assert_allclose(row, [largest - np.log(3)] * 2 + [0], rtol=1e-15, atol=2e-7)


@pytest.mark.parametrize(("results", "size"), [(1, 9), (3, 7), (1000, 5)])
def test_blocks_of_points(results, size, monkeypatch):
    monkeypatch.setattr(log_mean, "_BLOCK", 10)
    monkeypatch.setattr(log_mean, "_BLOCK_RESULTS", 21)
    monkeypatch.setattr(log_mean, "_FEWEST_POINTS", 5)
    points = RNG.normal(size=(25, 2))
    blocks = list(log_mean.point_blocks(tf.constant(points), results))
    assert {block.shape for _, block in blocks} == {(size, 2)}
    together = np.concatenate([block[: place.stop - place.start] for place, block in blocks])
    np.testing.assert_array_equal(together, points)
    np.testing.assert_array_equal(np.concatenate([points[place] for place, _ in blocks]), points)


def test_mean_over_chains():
    values = RNG.normal(size=(6, 2, 3)) * 500
    exact = scipy.special.logsumexp(values, axis=0) - np.log(6)
    np.testing.assert_allclose(log_mean.over_chains(values.copy()), exact, rtol=1e-13)


def test_products_keep_their_digits_and_the_setting_is_restored():
    options, seen = tf.config.experimental, []

    def exponent(samples, points):
        seen.append(options.tensor_float_32_execution_enabled())
        return product(samples, points)

    blocks = log_mean.SampleBlocks(tf.zeros((1, 2, 3)))
    enabled = options.tensor_float_32_execution_enabled()
    try:
        for before in (True, False):
            options.enable_tensor_float_32_execution(before)
            blocks.log_mean_exp(exponent, tf.zeros((4, 3)), [[1.0]])
            assert options.tensor_float_32_execution_enabled() == before
    finally:
        options.enable_tensor_float_32_execution(enabled)
    assert seen == [False, False]
