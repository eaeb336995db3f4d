"""Moments, blocks and the spectrum of standardized features, compared with NumPy in float64."""

import numpy as np
import pytest

from thesis_tf.probes.solver import standardized
from thesis_tf.probes.solver.standardized import Standardized


def in_blocks(x, size):
    return lambda: ((first, x[first : first + size]) for first in range(0, len(x), size))


def features(examples=500, size=20, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((examples, size)) @ rng.standard_normal((size, size))
    return (mixed + 3 * rng.standard_normal(size)).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("size", [500, 128, 77, 1])
@pytest.mark.parametrize("keep", [True, False])
def test_each_feature_has_mean_zero_and_variance_one(size, keep):
    x = features()
    got = Standardized(in_blocks(x, size), keep=keep, dtype="float64")
    assert got.mean == pytest.approx(x.mean(0), abs=1e-13)
    assert got.scale == pytest.approx(x.std(0), rel=1e-13)
    assert (got.examples, got.size) == x.shape
    rows = np.concatenate([block.numpy() for _, block in got.blocks()])
    assert rows == pytest.approx((x - x.mean(0)) / x.std(0), abs=1e-12)
    assert [first for first, _ in got.blocks()] == ([0] if keep else list(range(0, 500, size)))


def test_a_small_spread_around_a_large_mean_in_float32():
    x = (1e4 + np.random.default_rng(0).standard_normal((5000, 7))).astype("float32")
    exact = x.astype("float64")
    got = Standardized(in_blocks(x, 999))
    # Sums of 128 numbers around a typical value, each with a relative rounding of 2^-24.
    assert got.mean == pytest.approx(exact.mean(0), rel=1e-9)
    assert got.scale == pytest.approx(exact.std(0), rel=1e-5)
    assert got.kept.numpy() == pytest.approx((exact - exact.mean(0)) / exact.std(0), abs=2e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 3.3, -1e5])
def test_a_feature_that_never_changes_is_left_out(dtype, value):
    x = features(dtype=dtype)
    x[:, 3] = value
    got = Standardized(in_blocks(x, 100), dtype=dtype)
    assert np.isinf(got.scale).tolist() == [d == 3 for d in range(20)]
    assert (got.kept.numpy()[:, 3] == 0).all()
    assert np.isfinite(got.kept.numpy()).all()


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1e6, 1e30])
def test_units_do_not_matter(unit):
    x = features()
    plain = Standardized(in_blocks(x, 100), dtype="float64").kept.numpy()
    scaled = Standardized(in_blocks(x * unit, 100), dtype="float64").kept.numpy()
    assert scaled == pytest.approx(plain, abs=1e-12)


def gram(x, stride=1):
    rows = ((x - x.mean(0)) / x.std(0))[::stride]
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("keep", [True, False])
def test_spectrum_of_few_features_is_exact(keep):
    x = features()
    got = Standardized(in_blocks(x, 77), keep=keep, dtype="float64").spectrum
    vectors = got.vectors.numpy()
    assert vectors.T @ np.diag(got.values) @ vectors == pytest.approx(gram(x), abs=1e-12)
    assert got.tail == 0


@pytest.mark.parametrize("keep", [True, False])
def test_spectrum_takes_every_so_manyth_example_across_blocks(keep, monkeypatch):
    monkeypatch.setattr(standardized, "ROWS", 100)
    x = features()
    got = Standardized(in_blocks(x, 77), keep=keep, dtype="float64").spectrum
    vectors = got.vectors.numpy()
    assert vectors.T @ np.diag(got.values) @ vectors == pytest.approx(gram(x, 5), abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spectrum_of_many_features(dtype, monkeypatch):
    monkeypatch.setattr(standardized, "RANKS", (16, 16))
    rng = np.random.default_rng(0)
    strong = rng.standard_normal((800, 8)) @ rng.standard_normal((8, 60))
    x = (strong + 0.01 * rng.standard_normal(strong.shape)).astype(dtype)
    exact = gram(x.astype("float64"))
    got = Standardized(in_blocks(x, 800), dtype=dtype).spectrum
    vectors = got.vectors.numpy().astype("float64")
    # Products square the eigenvalues, which differ by 1e6: 4 of 16 digits are left.
    assert vectors @ vectors.T == pytest.approx(np.eye(16), abs=1e-4)
    # The eight large eigenvalues are found, and none is overestimated.
    top = np.linalg.eigvalsh(exact)[::-1]
    found = np.sort(got.values)[::-1]
    assert found[:8] == pytest.approx(top[:8], rel=1e-3)
    assert (found <= top[:16] + 1e-4).all()
    assert found.sum() + got.tail * (60 - 16) == pytest.approx(60, rel=1e-5)


def test_spectrum_of_features_of_rank_one(monkeypatch):
    monkeypatch.setattr(standardized, "RANKS", (16, 16))
    column = np.random.default_rng(0).standard_normal((300, 1)).astype("float32")
    got = Standardized(in_blocks(np.repeat(column, 100, 1), 300)).spectrum
    assert got.values.max() == pytest.approx(100, rel=1e-4)
    assert np.isfinite(got.vectors.numpy()).all()
    assert got.tail == pytest.approx(0, abs=1e-4)
