import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from thesis_tf import corruption

X = tf.fill((100_000,), tf.constant(0.25, tf.float32))[:, None]
PROCESSES = [
    corruption.Gaussian(0.5),
    corruption.SaltAndPepper(0.4),
    corruption.Masking(0.3),
    corruption.Block(2, 3, value=9.0),
]


@pytest.mark.slow
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
    noisy = corruption.SaltAndPepper(0.4, low=-1.0, high=2.0).sample(X, (0, 0)).numpy()
    for value, share in ((-1.0, 0.2), (2.0, 0.2), (0.25, 0.6)):
        assert (noisy == value).mean() == pytest.approx(share, abs=4 * 0.5 / n**0.5)
    noisy = corruption.Masking(0.3, value=9.0).sample(X, (0, 0)).numpy()
    assert (noisy == 9.0).mean() == pytest.approx(0.3, abs=4 * 0.5 / n**0.5)
    assert (corruption.Masking(1.0).sample(X, (0, 0)).numpy() == 0).all()


def test_small_probabilities_in_bfloat16():
    noisy = corruption.Masking(0.001, value=9.0).sample(tf.cast(X, tf.bfloat16), (0, 0))
    share = (tf.cast(noisy, tf.float32).numpy() == 9.0).mean()
    assert share == pytest.approx(0.001, abs=4 * (0.001 / len(X)) ** 0.5)


def test_gaussian_log_density():
    rng = np.random.default_rng(0)
    x, noisy = rng.normal(size=(2, 5, 3, 2))
    expected = scipy.stats.norm.logpdf(noisy, x, 0.3).sum(axis=(1, 2))
    np.testing.assert_allclose(corruption.Gaussian(0.3).log_prob(noisy, x), expected)


@pytest.mark.parametrize(
    "process", [corruption.SaltAndPepper(0.4), corruption.Masking(0.3), corruption.Masking(1.0)]
)
def test_log_probabilities_are_those_of_samples(process):
    # All results of two binary values; their probabilities sum to 1.
    states = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
    for x in states:
        p = np.exp(process.log_prob(states, np.repeat(x[None], 4, 0)))
        assert p.sum() == pytest.approx(1)
        samples = process.sample(np.repeat(x[None], 20_000, 0), (0, 1)).numpy()
        shares = [(samples == state).all(axis=1).mean() for state in states]
        np.testing.assert_allclose(shares, p, atol=4 * 0.5 / 20_000**0.5)
    # A gray value stays, or becomes 0 or 1.
    gray = corruption.SaltAndPepper(0.4).log_prob(
        np.array([[0.25], [0.0], [1.0], [0.5]]), np.full((4, 1), 0.25)
    )
    np.testing.assert_allclose(np.exp(gray), [0.6, 0.2, 0.2, 0.0])


def test_blocks_are_anywhere_with_equal_probability():
    x = tf.ones((20_000, 4, 5, 2))
    erased = (corruption.Block(2, 3).sample(x, (0, 1)).numpy() == 0)[..., 0]
    assert (erased.sum(axis=(1, 2)) == 6).all()
    rows, columns = erased.any(axis=2), erased.any(axis=1)
    assert (rows.sum(axis=1) == 2).all()
    assert (columns.sum(axis=1) == 3).all()
    corners = np.bincount(3 * rows.argmax(axis=1) + columns.argmax(axis=1), minlength=9) / 20_000
    np.testing.assert_allclose(corners, 1 / 9, atol=4 * 0.32 / 20_000**0.5)
    whole = corruption.Block(4, 5, value=7.0).sample(tf.ones((2, 4, 5)), (0, 1))
    assert (whole.numpy() == 7).all()


def test_keras_saves_them():
    for process in PROCESSES:
        config = keras.saving.serialize_keras_object(process)
        assert keras.saving.deserialize_keras_object(config) == process


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: corruption.Gaussian(0), ValueError, "`sigma`"),
        (lambda: corruption.SaltAndPepper(1.1), ValueError, r"`probability` must be in \(0, 1\]"),
        (lambda: corruption.Masking(0), ValueError, "`probability`"),
        (lambda: corruption.Gaussian(1).sample([[1, 2]], (0, 0)), TypeError, "pixels divided"),
        (
            lambda: corruption.Gaussian(1).log_prob(np.ones((3, 2)), np.ones((3, 1))),
            ValueError,
            r"`corrupted` must be float64 of shape \(3, 1\)",
        ),
        (lambda: corruption.Block(0, 3), ValueError, "`height`"),
        (lambda: corruption.Block(2, 2.5), TypeError, "`width`"),
        (
            lambda: corruption.Block(5, 2).sample(np.ones((3, 4, 4)), (0, 0)),
            ValueError,
            "of at least 5 x 2",
        ),
        (lambda: corruption.Block(1, 1).sample(np.ones((3, 4)), (0, 0)), ValueError, "Masking"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: corruption.SaltAndPepper(0.5, low=np.nan),
        lambda: corruption.SaltAndPepper(0.5, high=np.inf),
        lambda: corruption.Masking(0.5, value=np.nan),
        lambda: corruption.Block(1, 1, value=np.nan),
    ],
)
def test_replacements_that_are_not_finite(make):
    with pytest.raises(ValueError, match="must be a finite number"):
        make()
