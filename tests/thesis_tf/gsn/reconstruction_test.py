import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from thesis_tf.gsn import Bernoulli, Normal, NormalMixture

RNG = np.random.default_rng(0)
KINDS = [Bernoulli(), Normal(0.3), Normal(), NormalMixture(3)]


def parameters(kind, shape=(5, 4, 3)):
    more = () if kind.size == 1 else (kind.size,)
    return tf.constant(RNG.normal(size=(*shape, *more)))


def examples(kind, shape=(5, 4, 3)):
    x = RNG.normal(size=shape)
    return tf.constant((x > 0).astype(float) if isinstance(kind, Bernoulli) else x)


def by_scipy(kind, outputs, x, alpha=1.0):
    """Returns log P of each value by SciPy's densities."""
    outputs, x = np.asarray(outputs), np.asarray(x)
    if isinstance(kind, Bernoulli):
        return scipy.stats.bernoulli.logpmf(x, scipy.special.expit(alpha * outputs))
    if kind.size == 1:
        return scipy.stats.norm.logpdf(x, outputs, alpha * kind.scale)
    if isinstance(kind, Normal):
        scale = np.logaddexp(outputs[..., 1], 0) + kind.smallest
        return scipy.stats.norm.logpdf(x, outputs[..., 0], alpha * scale)
    logits, loc, scale = np.split(outputs, 3, axis=-1)
    scale = alpha * (np.logaddexp(scale, 0) + kind.smallest)
    terms = scipy.special.log_softmax(logits, axis=-1)
    return scipy.special.logsumexp(
        terms + scipy.stats.norm.logpdf(x[..., None], loc, scale), axis=-1
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("alpha", [None, 0.7])
def test_log_probabilities(kind, alpha):
    outputs, x = parameters(kind), examples(kind)
    expected = by_scipy(kind, outputs, x, alpha or 1.0)
    # SciPy's logpmf is less precise for probabilities near 0 and 1.
    np.testing.assert_allclose(
        kind.log_prob(outputs, x, alpha=alpha), expected.sum(axis=(1, 2)), rtol=1e-9
    )
    distribution = kind.distribution(outputs, alpha=alpha)
    assert tuple(distribution.batch_shape) == (5,)
    assert tuple(distribution.event_shape) == (4, 3)
    np.testing.assert_allclose(distribution.log_prob(x), expected.sum(axis=(1, 2)), rtol=1e-9)
    if alpha is None:
        np.testing.assert_allclose(kind.log_probs(outputs, x), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_pairs(kind):
    outputs, x = parameters(kind), examples(kind, (7, 4, 3))
    found = kind.pairwise_log_prob(outputs, x)
    for i in range(5):
        expected = by_scipy(kind, outputs[i : i + 1], x).sum(axis=(1, 2))
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_samples_have_the_mean_and_the_seed(kind):
    outputs = tf.repeat(parameters(kind, (1, 6)), 40_000, axis=0)
    samples = kind.sample(outputs, (1, 2), alpha=0.8).numpy()
    assert samples.dtype == np.float64
    np.testing.assert_array_equal(samples, kind.sample(outputs, (1, 2), alpha=0.8))
    assert (samples != kind.sample(outputs, (1, 3), alpha=0.8).numpy()).any()
    error = samples.std(axis=0) / len(samples) ** 0.5
    mean = kind.mean(outputs, alpha=0.8)[0].numpy()
    assert (abs(samples.mean(axis=0) - mean) < 5 * error + 1e-12).all()


def test_scaling_goes_the_right_way():
    outputs, x = tf.constant([[3.0]]), tf.constant([[1.0]])
    less_certain = Bernoulli().log_prob(outputs, x, alpha=0.5)
    assert less_certain < Bernoulli().log_prob(outputs, x)
    wide = Normal(0.1).distribution(outputs, alpha=2.0).stddev()
    np.testing.assert_allclose(wide, [[0.2]])


def test_gray_values_are_a_cross_entropy():
    logits, gray = tf.constant([[0.3, -2.0]]), tf.constant([[0.25, 0.9]])
    p = tf.sigmoid(logits)
    expected = tf.reduce_sum(gray * tf.math.log(p) + (1 - gray) * tf.math.log(1 - p))
    np.testing.assert_allclose(Bernoulli().log_prob(logits, gray)[0], expected, rtol=1e-6)
    extreme = Bernoulli().log_prob(tf.constant([[1e4, -1e4]]), tf.constant([[1.0, 0.0]]))
    assert extreme == 0


@pytest.mark.parametrize("kind", [Bernoulli(), Normal(0.3), Normal()], ids=str)
def test_gradients_through_samples(kind):
    outputs = parameters(kind, (2, 3))
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        total = tf.reduce_sum(kind.sample(outputs, (0, 1)))
    assert (tape.gradient(total, outputs) is not None) == kind.reparametrized


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_keras_saves_them(kind):
    config = keras.saving.serialize_keras_object(kind)
    assert keras.saving.deserialize_keras_object(config) == kind


def test_one_example_one_value_and_float32():
    for kind in KINDS:
        outputs, x = (tf.cast(a(kind, (1, 1)), tf.float32) for a in (parameters, examples))
        assert kind.log_prob(outputs, x).shape == (1,)
        # Squares in units of a small scale need more digits.
        wide = tf.float32 if isinstance(kind, Bernoulli) else tf.float64
        assert kind.pairwise_log_prob(outputs, x).dtype == wide


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Normal(0.0), "`scale` must be a positive number"),
        (lambda: Normal(smallest=-1), "`smallest` must be a positive number"),
        (lambda: NormalMixture(1), r"`components` must be at least 2.*Normal\(\)"),
        (lambda: Bernoulli().check(np.array([0, 255.0])), r"in \[0, 1\].*values in \[0, 255\]"),
        (lambda: Bernoulli().check(np.array([0, np.nan])), "finite"),
        (lambda: Normal().check(np.array([0, np.inf])), "finite"),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(ValueError, match=match):
        make()
