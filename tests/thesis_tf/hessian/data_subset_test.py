import numpy as np
import pytest

from thesis_tf import hessian
from thesis_tf.hessian.data_subset import angles


def test_the_same_examples_of_every_class():
    y = np.repeat([0, 1, 2], [600, 300, 100])
    x = np.arange(1000)
    xs, ys = hessian.fixed_subset(x, y, fraction=0.05)
    assert len(xs) == 50
    assert np.bincount(ys).tolist() == pytest.approx([30, 15, 5], abs=1)
    np.testing.assert_array_equal(y[xs], ys)
    np.testing.assert_array_equal(hessian.fixed_subset(x, y, fraction=0.05)[0], xs)
    assert (hessian.fixed_subset(x, y, fraction=0.05, seed=1)[0] != xs).any()
    assert len(hessian.fixed_subset(x, np.zeros((1000, 2)), fraction=0.1)[0]) == 100
    np.testing.assert_array_equal(hessian.fixed_subset(x, y, fraction=1.0)[0], x)


def test_larger_fractions_hold_smaller_ones():
    y = np.random.default_rng(0).integers(0, 4, 200)
    small, large = (set(hessian.fixed_subset(np.arange(200), y, fraction=f)[0]) for f in (0.1, 0.4))
    assert small < large


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_bad_fractions(fraction):
    with pytest.raises(ValueError, match="`fraction` must be "):
        hessian.fixed_subset(np.arange(3), np.arange(3), fraction=fraction)
    with pytest.raises(ValueError, match="of one length"):
        hessian.fixed_subset(np.arange(3), np.arange(4))


def test_angles():
    u = np.eye(3)[:, [0, 0, 1]]
    v = np.stack([[1, 0, 0], [-np.sqrt(0.75), 0.5, 0], [0, 0, 1]], axis=1)
    np.testing.assert_allclose(angles(u, v), [0, 30, 90], atol=1e-6)


def test_a_matrix_and_one_that_is_turned_and_scaled(matrix, tmp_path):
    eigenvalues = np.concatenate([[-3.0, -2.0], np.linspace(-0.1, 0.1, 30), [4.0, 5.0]])
    full, vectors = matrix(eigenvalues)
    part, _ = matrix(eigenvalues)
    turn = np.eye(34)
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn[32:, 32:] = [[c, -s], [s, c]]  # in the space of the two largest
    turned = vectors @ turn
    part.matrix = (turned * (eigenvalues * [*[1.1] * 2, *[1.0] * 30, *[0.9] * 2])) @ turned.T
    found = hessian.compare_subset(full, part, largest=2, smallest=2, tol=1e-8)

    np.testing.assert_allclose(found.largest.full, [5, 4])
    np.testing.assert_allclose(found.largest.relative, [-0.1, -0.1])
    np.testing.assert_allclose(found.largest.angles, [20, 20], atol=1e-5)
    np.testing.assert_allclose(found.largest.subspace_angles, 0, atol=1e-5)
    np.testing.assert_allclose(found.smallest.relative, [-0.1, -0.1])
    np.testing.assert_allclose(found.smallest.angles, 0, atol=1e-5)
    rows = found.table().splitlines()
    assert rows[1].split() == ["largest", "1", "5", "4.5", "-10.0%", "20.0°"]
    assert rows[3].split()[:5] == ["smallest", "1", "-3", "-3.3", "-10.0%"]
    assert found.summary()["largest"]["max_angle"] == pytest.approx(20, abs=1e-5)
    assert "max_relative=0.1" in repr(found)

    found.save(tmp_path / "compared.npz")
    again = hessian.SubsetComparison.load(tmp_path / "compared.npz")
    assert again.summary() == found.summary()
    assert again.table() == found.table()
    for part in ("largest", "smallest", "full", "subset"):
        for name, value in vars(getattr(found, part)).items():
            np.testing.assert_array_equal(getattr(getattr(again, part), name), value)
    assert type(again.full.products) is int


def test_one_end(matrix):
    operator, _ = matrix(np.arange(20.0))
    found = hessian.compare_subset(operator, operator, largest=2, smallest=0)
    assert found.smallest.full.shape == found.smallest.subspace_angles.shape == (0,)
    with pytest.raises(ValueError, match="operators must be of one shape"):
        hessian.compare_subset(operator, matrix(np.arange(3.0))[0])
