"""Iterations with products against whole matrices, by NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders import ScoreEstimator, find_attractors, score_field
from thesis_tf.autoencoders.density.derivatives import spectra

SIZE = 40


def matrix(kind):
    """Returns a (40, 40) matrix of some kind; the largest eigenvalues are apart."""
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    values = np.zeros(SIZE)
    values[:6] = [0.95, 0.9, 0.8, 0.7, 0.6, 0.3]
    found = basis @ np.diag(values) @ basis.T
    if kind == "skew":
        found[np.ix_([0, 1], [0, 1])] += 1.5 * np.array([[0.0, -1.0], [1.0, 0.0]])
    elif kind == "noise":
        found += rng.normal(size=(SIZE, SIZE)) / 20
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["symmetric", "skew", "noise"])
@pytest.mark.parametrize("top_k", [None, 7])
def test_tangents_are_of_the_symmetric_part(kind, dtype, top_k):
    m = matrix(kind)
    x = np.random.default_rng(1).normal(size=(2, SIZE)).astype(dtype)
    estimator = ScoreEstimator(lambda x: x @ tf.constant(m.T, x.dtype))
    found = estimator.tangent_directions(x, top_k=top_k)
    values, vectors = np.linalg.eigh((m + m.T) / 2)
    count = top_k or SIZE
    # The iterations end at residuals of eps^.5 max(1, |S|), and eigenvalues of symmetric matrices
    # are no less exact than residuals; whole float32 matrices are rounded at eps |m| d^.5.
    close = 2.5 * np.finfo(dtype).eps ** 0.5
    np.testing.assert_allclose(found.eigenvalues[0], values[::-1][:count], atol=close)
    assert found.directions.shape == (2, SIZE, count)
    assert found.dimension.tolist() == [(values > 0.5).sum()] * 2
    along = abs(found.directions[0][:, 0] @ vectors[:, -1])
    gap = values[-1] - values[-2]
    assert along > 1 - (close / gap) ** 2 - close
    skew = np.linalg.norm((m - m.T) / 2, 2)
    # The iterations find skew^2; near 0 this leaves the root of the tolerance.
    np.testing.assert_allclose(found.skew, skew, atol=close / skew if skew > 0.1 else close**0.5)
    assert bool(found.warnings()) == (skew > 0.5)
    exact = np.linalg.norm(m - m.T) / 2 / np.linalg.norm(m)
    # 20 vectors, each with a relative standard deviation of at most 2^.5 of either square.
    room = 4 * exact * (2 / 20) ** 0.5 + close if top_k else close
    np.testing.assert_allclose(found.asymmetry, exact, atol=room)


@pytest.mark.parametrize("signs", [1, -1])
@pytest.mark.parametrize("top_k", [3, 12, 39])
def test_eigenvalues_that_occur_often_are_all_found(top_k, signs):
    # r with few hidden units: nearly all eigenvalues are 0, above the negative ones.
    values = np.zeros(SIZE)
    values[:8] = signs * np.array([4.0, 4.0, 2.0, 1.0, -1.0, -3.0, -3.0, -3.0])
    basis = np.linalg.qr(np.random.default_rng(6).normal(size=(SIZE, SIZE)))[0]
    m = basis @ np.diag(values) @ basis.T
    estimator = ScoreEstimator(lambda x: x @ tf.constant(m.T, x.dtype))
    found = estimator.tangent_directions(np.ones((1, SIZE)), top_k=top_k)
    np.testing.assert_allclose(found.eigenvalues[0], np.sort(values)[::-1][:top_k], atol=1e-7)
    directions = found.directions[0]
    np.testing.assert_allclose(directions.T @ directions, np.eye(top_k), atol=1e-10)
    np.testing.assert_allclose(m @ directions, directions * found.eigenvalues[0], atol=1e-6)
    assert found.residual.max() < 1e-6


def test_tangents_that_have_not_converged_are_said(monkeypatch):
    monkeypatch.setattr(spectra, "_BLOCKS", 1)
    monkeypatch.setattr(spectra, "_MORE", 1)
    m = matrix("noise") * 3
    estimator = ScoreEstimator(lambda x: x @ tf.constant(m.T, x.dtype))
    found = estimator.tangent_directions(np.ones((2, SIZE)), top_k=2)
    assert any("have not converged: they may be off by" in said for said in found.warnings())
    exact = np.linalg.eigvalsh((m + m.T) / 2)
    # Each Ritz value is within its residual of an eigenvalue.
    assert abs(exact[:, np.newaxis] - found.eigenvalues[0]).min(axis=0).max() <= found.residual[0]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", ["symmetric", "noise", "skew"])
def test_eigenvalues_at_attractors_are_those_of_the_jacobian(kind, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(spectra, "DENSE", 3)
    m = matrix(kind) * (0.5 if kind == "noise" else 0.55)
    estimator = ScoreEstimator(lambda x: x @ tf.constant(m.T, x.dtype), sigma=0.1)
    x = np.random.default_rng(1).normal(size=(4, SIZE))
    found = find_attractors(estimator, x, x)
    values = np.linalg.eigvals(m)
    assert len(found.points) == 1
    np.testing.assert_allclose(found.spectral_radius, abs(values).max(), atol=1e-5)
    assert found.maximum[0] == (values.real.max() < 1)
    assert not found.warnings()


@pytest.mark.parametrize("rank", [1, 2, 30])
def test_the_plane_of_large_examples_is_that_of_whole_matrices(rank, monkeypatch):
    rng = np.random.default_rng(4)
    factors = 0.5 ** np.arange(rank)
    x = (rng.normal(size=(25, rank)) * factors) @ rng.normal(size=(rank, SIZE))
    estimator = ScoreEstimator(lambda x: 0.5 * x, sigma=1.0)
    exact = score_field(estimator, x, num_arrows=9).axes
    monkeypatch.setattr(spectra, "DENSE", 3)
    found = score_field(estimator, x, num_arrows=9).axes
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-8)
    kept = min(rank, 2)  # the second axis of data on a line is any
    overlap = abs((found[:, :kept] * exact[:, :kept]).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)


def test_eigenvalues_that_do_not_converge_are_said(monkeypatch):
    monkeypatch.setattr(spectra, "DENSE", 3)
    monkeypatch.setattr(spectra, "_RESTARTS", 1)
    rng = np.random.default_rng(0)
    m = 0.9 * np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]  # all of one size: none stands out
    estimator = ScoreEstimator(lambda x: x @ tf.constant(m.T, x.dtype), sigma=0.1)
    x = rng.normal(size=(4, SIZE))
    found = find_attractors(estimator, x, x)
    assert np.isnan(found.spectral_radius).all()
    assert not found.maximum.any()
    assert "At 1 of 1 attractors the eigenvalues of dr/dx did not converge" in found.warnings()[0]


@pytest.mark.parametrize("top_k", [0, SIZE])
def test_bad_numbers_of_directions(top_k):
    with pytest.raises(ValueError, match="`top_k` must be"):
        ScoreEstimator(tf.identity).tangent_directions(np.ones((3, SIZE)), top_k=top_k)


def test_pieces_are_small_enough_to_be_interrupted():
    for size in (1, 2, 50, 322, 784, 1024, 10_304):
        found = [len(range(1000)[piece]) for piece in spectra.pieces(1000, size)]
        assert sum(found) == 1000
        assert max(found) == 1 or max(found) * size**3 <= 1 << 30
        assert max(found) == 1 or max(found) * size**2 <= 1 << 24
