import numpy as np
import pytest

from thesis_tf.datasets import manifold10d, spiral


def test_the_spiral_grows_with_its_angle():
    x = spiral(5000, seed=1)
    assert (x.shape, x.dtype) == ((5000, 2), np.float64)
    t = np.linalg.norm(x, axis=1) / 0.04
    assert 3 <= t.min() < 3.02
    assert 11.98 < t.max() <= 12
    np.testing.assert_allclose(x, 0.04 * t[:, None] * np.stack([np.sin(t), np.cos(t)], 1))
    # t is uniform.
    assert t.mean() == pytest.approx(7.5, abs=4 * 9 / (12 * 5000) ** 0.5)
    assert np.linalg.norm(spiral(5000, end=15.0), axis=1).max() > 0.04 * 14.9


def test_seeds_and_streams():
    np.testing.assert_array_equal(spiral(5, seed=1), spiral(5, seed=1))
    assert (spiral(5, seed=1) != spiral(5, seed=2)).all()
    assert (spiral(5, seed=1) != spiral(5, seed=1, stream=1)).all()
    mixture = manifold10d(seed=3)
    np.testing.assert_array_equal(mixture.means, manifold10d(seed=3).means)
    assert (mixture.sample(4, seed=1) != mixture.sample(4, seed=1, stream=2)).all()


@pytest.mark.parametrize("components", [25, 100])
def test_the_manifold_has_its_long_axes_along_the_curve(components):
    mixture = manifold10d(seed=0, components=components)
    assert mixture.means.shape == (components, 10)
    assert abs(mixture.means).max() <= 1
    values, vectors = np.linalg.eigh(mixture.covariances)
    spread = np.sqrt(values)
    np.testing.assert_allclose(spread[:, :-1] / spread[:, -1:], 0.1, rtol=1e-9)
    # The difference of neighbors is the tangent, up to second order in their distance.
    difference = mixture.means[2:] - mixture.means[:-2]
    length = np.linalg.norm(difference, axis=1)
    along = abs(np.einsum("nd,nd->n", difference, vectors[1:-1, :, -1])) / length
    assert along.min() > 1 - 40 / components**2
    np.testing.assert_allclose(spread[1:-1, -1], length / 4, rtol=0.1 if components > 50 else 0.3)


def test_one_curve_whatever_the_number_of_components():
    few, many = manifold10d(seed=5, components=25), manifold10d(seed=5, components=97)
    np.testing.assert_allclose(few.means, many.means[::4])


def test_samples_have_the_moments_of_the_mixture_and_stay_inside():
    mixture = manifold10d(seed=1)
    x = mixture.sample(20_000, seed=4)
    assert x.shape == (20_000, 10)
    assert abs(x).max() <= 1.5
    spread = x.std(axis=0) / len(x) ** 0.5
    # Few values are drawn again, so the moments are those of the whole mixture.
    assert (abs(x.mean(axis=0) - mixture.means.mean(axis=0)) < 5 * spread).all()


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda: spiral(0), "`count`"),
        (lambda: spiral(5, end=3.0), "above 3"),
        (lambda: spiral(5, seed=-1), "`seed`"),
        (lambda: manifold10d(components=0), "`components`"),
        (lambda: manifold10d(ratio=0), "`ratio`"),
    ],
)
def test_bad_input(draw, match):
    with pytest.raises(ValueError, match=match):
        draw()
