import numpy as np
import pytest
import scipy.stats

from thesis_tf.issgd.sampling.smoothing import (
    DEFAULT,
    Additive,
    RelativeToMean,
    TargetEntropy,
    UniformMixture,
    as_smoothing,
)

WEIGHTS = np.random.default_rng(0).lognormal(sigma=1.5, size=5000)


def constant(rule, weights=WEIGHTS):
    return rule.constant(weights.mean(), lambda: weights)


def smoothed(rule, weights=WEIGHTS):
    total = weights + constant(rule, weights)
    return total / total.sum()


def perplexity(q):
    return np.exp(scipy.stats.entropy(q)) / len(q)


def test_constants():
    assert constant(Additive(10)) == 10
    assert constant(RelativeToMean(0.5)) == 0.5 * WEIGHTS.mean()
    assert constant(DEFAULT) == WEIGHTS.mean()
    assert as_smoothing(3) == as_smoothing(np.float32(3)) == Additive(3.0)
    assert as_smoothing(DEFAULT) is DEFAULT


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_a_mixture_with_uniform_is_relative_to_the_mean(fraction):
    q = smoothed(UniformMixture(fraction))
    mixed = (1 - fraction) * WEIGHTS / WEIGHTS.sum() + fraction / len(WEIGHTS)
    np.testing.assert_allclose(q, mixed, rtol=1e-12)
    np.testing.assert_allclose(q, smoothed(RelativeToMean(fraction / (1 - fraction))), rtol=1e-12)
    assert (1 / (len(q) * q)).max() <= 1 / max(fraction, 1e-9)


def test_only_the_absolute_constant_drifts_towards_uniform_as_norms_shrink():
    for rule, drifts in ((Additive(1), True), (RelativeToMean(1), False), (TargetEntropy(0.8), 0)):
        large, small = smoothed(rule, 10 * WEIGHTS), smoothed(rule, 0.01 * WEIGHTS)
        assert (perplexity(small) > perplexity(large) + 0.05) == drifts
        assert np.allclose(small, large, rtol=1e-5) != drifts


@pytest.mark.parametrize("fraction", [0.4, 0.5, 0.9, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_entropy_is_hit(fraction, scale):
    assert perplexity(WEIGHTS / WEIGHTS.sum()) < 0.4
    assert perplexity(smoothed(TargetEntropy(fraction), scale * WEIGHTS)) == pytest.approx(
        fraction, abs=1e-6
    )


@pytest.mark.parametrize(
    "weights",
    [
        np.eye(1, 1000)[0],
        np.repeat([0.0, -0.0, 3.0], [500, 300, 200]),
        10.0 ** np.random.default_rng(1).uniform(-30, 30, 1000),
        np.arange(1000.0),
    ],
    ids=["one", "zeros", "range", "ramp"],
)
def test_the_entropy_is_hit_from_extreme_weights(weights):
    for fraction in (0.9, 0.99):
        assert perplexity(smoothed(TargetEntropy(fraction), weights)) == pytest.approx(
            fraction, abs=1e-6
        )


def test_nothing_is_added_where_the_entropy_is_high_enough():
    for weights in (np.full(10, 0.3), np.ones(1), np.zeros(5), np.array([1.0, 0.0])):
        assert constant(TargetEntropy(0.5), weights) == 0
    reached = perplexity(WEIGHTS / WEIGHTS.sum())
    assert constant(TargetEntropy(reached - 1e-4)) == 0
    assert constant(TargetEntropy(reached + 1e-4)) > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Additive(-1), "`amount` must be a finite number of at least 0. Received: -1"),
        (lambda: RelativeToMean(np.nan), "`factor` must be a finite number of at least 0"),
        (lambda: UniformMixture(1), "`fraction` must be at least 0 and below 1.*`uniform`"),
        (lambda: TargetEntropy(1.0), "`fraction` must be above 0 and below 1"),
    ],
)
def test_bad_rules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="`smoothing` must be a number, or a rule"):
        as_smoothing("10")


def test_names():
    rules = [Additive(10), RelativeToMean(0.5), UniformMixture(0.1), TargetEntropy(0.9)]
    assert [str(rule) for rule in rules] == ["+10", "+0.5 mean", "0.1 uniform", "perplexity 0.9 N"]
