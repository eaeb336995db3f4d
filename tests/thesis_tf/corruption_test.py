import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import corruption

X = tf.fill((100_000,), tf.constant(0.25, tf.float32))[:, None]
PROCESSES = [corruption.Gaussian(0.5), corruption.SaltAndPepper(0.4), corruption.Masking(0.3)]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_shapes_dtypes_and_seeds(process, dtype):
    x = tf.cast(tf.reshape(X[:240], (10, 4, 3, 2)), dtype)
    first = process.sample(x, (1, 2))
    assert (first.shape, first.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(first, process.sample(x, (1, 2)))
    assert np.any(first.numpy() != process.sample(x, (1, 3)).numpy())
    compiled = tf.function(lambda x: process.sample(x, (1, 2)))
    np.testing.assert_array_equal(first, compiled(x))


def test_gaussian_moments():
    noise = corruption.Gaussian(0.5).sample(X, (0, 0)).numpy() - 0.25
    n = noise.size
    assert noise.mean() == pytest.approx(0, abs=4 * 0.5 / n**0.5)
    assert noise.std() == pytest.approx(0.5, rel=4 / (2 * n) ** 0.5)


def test_how_often_values_are_replaced():
    n = len(X)
    noisy = corruption.SaltAndPepper(0.4, -1.0, 2.0).sample(X, (0, 0)).numpy()
    for value, share in ((-1.0, 0.2), (2.0, 0.2), (0.25, 0.6)):
        assert (noisy == value).mean() == pytest.approx(share, abs=4 * 0.5 / n**0.5)
    noisy = corruption.Masking(0.3, 9.0).sample(X, (0, 0)).numpy()
    assert (noisy == 9.0).mean() == pytest.approx(0.3, abs=4 * 0.5 / n**0.5)
    assert (corruption.Masking(1.0).sample(X, (0, 0)).numpy() == 0).all()


def test_small_probabilities_in_bfloat16():
    noisy = corruption.Masking(0.001, 9.0).sample(tf.cast(X, tf.bfloat16), (0, 0))
    share = (tf.cast(noisy, tf.float32).numpy() == 9.0).mean()
    assert share == pytest.approx(0.001, abs=4 * (0.001 / len(X)) ** 0.5)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: corruption.Gaussian(0), ValueError, "`sigma`"),
        (lambda: corruption.SaltAndPepper(1.1), ValueError, r"`probability` must be in \(0, 1\]"),
        (lambda: corruption.Masking(0), ValueError, "`probability`"),
        (lambda: corruption.Gaussian(1).sample([[1, 2]], (0, 0)), TypeError, "pixels divided"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
