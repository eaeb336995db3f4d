import dataclasses

import numpy as np
import pytest

from thesis_tf.issgd.sampling import variance
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.smoothing import Additive, RelativeToMean

N = 60
GRADIENTS = np.random.default_rng(0).normal(size=(N, 7)) * np.linspace(0.1, 3, N)[:, None] + 0.3
NORMS = np.linalg.norm(GRADIENTS, axis=1)
TRUE = np.square(GRADIENTS.mean(axis=0)).sum()


def covariance_trace(weights):
    """Returns the trace from the covariance of scaled gradients over the exact distribution."""
    q = weights / weights.sum()
    scaled = GRADIENTS / (N * q)[:, None]
    centered = scaled - q @ scaled
    return np.trace((centered * q[:, None]).T @ centered)


@pytest.mark.parametrize("seed", range(5))
def test_the_trace_is_that_of_the_covariance_matrix(seed):
    weights = np.random.default_rng(seed).lognormal(size=N)
    expected = covariance_trace(weights)
    assert variance.gradient_variance(NORMS, weights, true_gradient_squared=TRUE) == pytest.approx(
        expected, rel=1e-12
    )
    assert variance.gradient_variance(
        NORMS, 1e30 * weights, true_gradient_squared=TRUE
    ) == pytest.approx(expected, rel=1e-12)
    assert variance.gradient_variance(NORMS, weights) == pytest.approx(expected + TRUE, rel=1e-12)
    assert variance.gradient_variance(NORMS, weights) >= variance.gradient_variance(
        NORMS, NORMS
    ) * (1 - 1e-12)


def test_corollary_2_and_uniform_draws():
    assert variance.gradient_variance(NORMS, NORMS) == pytest.approx(NORMS.mean() ** 2)
    for weight in (0.0, 1.0, 7.0):
        weights = np.full(N, weight)
        assert variance.gradient_variance(NORMS, weights) == pytest.approx(np.square(NORMS).mean())


def test_weights_of_zero():
    assert variance.gradient_variance([1.0, 2.0], [0.0, 1.0]) == np.inf
    assert (
        variance.gradient_variance([0.0, 2.0], [0.0, 1.0]) == 1.0
    )  # never drawn, without effect on the estimate
    assert variance.gradient_variance([0.0, 0.0], [0.0, 0.0]) == 0.0


def test_traces_of_all_examples():
    stale = NORMS * np.random.default_rng(1).lognormal(sigma=0.5, size=N)
    proposal = Proposal(N, smoothing=RelativeToMean(0.2))
    proposal.update(None, stale, 0)
    mixed = RelativeToMean(1.0)
    variances = variance.compare_draws(
        NORMS,
        stale,
        smoothed_norms=proposal.smoothed_norms(),
        smoothings=(10.0, Additive(1), mixed),
        true_gradient_squared=TRUE,
    )
    assert variances.ideal == pytest.approx(covariance_trace(NORMS))
    assert variances.stale == pytest.approx(covariance_trace(stale))
    assert variances.uniform == pytest.approx(covariance_trace(np.ones(N)))
    assert variances.actual == pytest.approx(covariance_trace(stale + 0.2 * stale.mean()))
    assert variances.smoothed == {
        Additive(10.0): pytest.approx(covariance_trace(stale + 10)),
        Additive(1.0): pytest.approx(covariance_trace(stale + 1)),
        mixed: pytest.approx(covariance_trace(stale + stale.mean())),
    }
    assert variances.excess == variances.actual - variances.uniform
    assert set(variances.standard_errors.values()) == {0.0}
    heading, *rows = variances.table().splitlines()
    assert heading.split() == ["draws", "gradient", "variance", "standard", "error"]
    assert [row.split()[0] for row in rows[:5]] == [*variance.DRAWS, "stale+10"]
    assert variances.summary()["excess"] == variances.excess
    roots = variances.sqrt()
    assert list(roots) == [
        *("ideal", "stale", "uniform", "actual"),
        *("stale+10", "stale+1", "stale+1 mean"),
    ]
    assert roots["ideal"] ** 2 == pytest.approx(variances.ideal)
    assert variance.compare_draws(NORMS, stale).actual == variance.gradient_variance(NORMS, stale)


def test_a_trace_below_zero_is_shown_as_zero():
    assert variance.compare_draws([1.0], [1.0], true_gradient_squared=1.5).sqrt()["actual"] == 0.0


def test_standard_errors_are_the_spread_of_estimates_from_parts():
    rng = np.random.default_rng(2)
    norms = rng.gamma(3.0, size=5000)
    stale = norms * rng.lognormal(sigma=0.4, size=5000) + 0.1
    whole = variance.compare_draws(norms, stale, smoothed_norms=stale + 1, smoothings=(1.0,))
    names = ["ideal", "stale", "uniform", "actual", "excess"]
    estimates, errors = [], []
    for _ in range(2000):
        part = rng.choice(5000, 1000, replace=False)
        variances = variance.compare_draws(
            norms[part],
            stale[part],
            smoothed_norms=stale[part] + 1,
            smoothings=(1.0,),
            population=5000,
        )
        estimates.append([getattr(variances, name) for name in names])
        errors.append([variances.standard_errors[name] for name in names])
        assert variances.standard_errors[Additive(1.0)] == variances.standard_errors["actual"]
    bias = np.mean(estimates, axis=0) - [getattr(whole, name) for name in names]
    spread = np.std(estimates, axis=0)
    # 2,000 estimates determine the spread to 1.6 %; the delta method omits terms of 1 / 1000.
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.08)
    assert (abs(bias) < 0.15 * spread).all()
    assert spread[4] < 0.8 * spread[2]


def test_the_bound_on_the_true_gradient():
    batches = np.random.default_rng(3).permutation(N).reshape(6, 10)
    means = GRADIENTS[batches].mean(axis=1)
    bound = variance.true_gradient_bound(np.square(means).sum(axis=1))
    assert bound == pytest.approx(np.square(np.linalg.norm(means, axis=1)).mean())
    assert bound >= TRUE
    assert variance.true_gradient_bound([TRUE]) == TRUE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_what_is_refused(bad):
    with pytest.raises(ValueError, match=r"`norms` must be finite and at least 0.*Exclude"):
        variance.gradient_variance([1.0, bad], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"`weights` must be finite and at least 0"):
        variance.gradient_variance([1.0, 1.0], [1.0, bad])
    with pytest.raises(ValueError, match=r"`stale_norms` must be of shape \(2,\)"):
        variance.compare_draws([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="`errors` must be at least 0"):
        variance.FallBack(errors=bad if bad < 0 else np.nan)


def variances_with(excess, error=0.0, uniform=4.0):
    base = variance.compare_draws([1.0, 2.0], [1.0, 2.0])
    return dataclasses.replace(
        base,
        uniform=uniform,
        actual=uniform + excess,
        excess=excess,
        standard_errors={"excess": error},
    )


def test_falling_back_and_returning():
    fall_back = variance.FallBack()
    assert (fall_back.uniform, fall_back.reason) == (False, None)
    decisions = [
        fall_back.update(variances_with(excess)) for excess in (-1.0, 0.0, 0.1, 0.2, 0.0, -1, 0.1)
    ]
    assert decisions == [False, False, True, True, False, False, True]
    assert fall_back.reason.startswith(
        "uniform draws: the gradient variance is 4.1 by gradient norms and 4 unif"
    )
    fall_back.update(variances_with(-1.0))
    assert fall_back.reason.startswith(
        "draws by gradient norms: the gradient variance is 3 by gradient norms"
    )


def test_chance_decides_nothing():
    fall_back = variance.FallBack(errors=2.0)
    assert not fall_back.update(variances_with(1.9, error=1.0))
    assert fall_back.update(variances_with(2.1, error=1.0))
    assert fall_back.update(variances_with(-1.9, error=1.0))
    assert not fall_back.update(variances_with(-2.1, error=1.0))
    assert not fall_back.update(variances_with(1e-14))  # a rounding error
    assert fall_back.update(variances_with(np.inf))
    assert fall_back.update(variances_with(np.nan))


def test_weights_of_another_time_fall_back_and_fresh_ones_return():
    # The proposal keeps its gradient norms while draws are uniform.
    proposal, fall_back = Proposal(N, smoothing=0.0), variance.FallBack()
    for weights, expected in ((NORMS, False), (NORMS[::-1], True), (NORMS[::-1], True)):
        proposal.update(None, weights, 0)
        effective = proposal.smoothed_norms()
        proposal.uniform = fall_back.update(
            variance.compare_draws(NORMS, weights, smoothed_norms=effective)
        )
        assert proposal.uniform == proposal.is_uniform == expected
    proposal.update(None, NORMS, 1)
    proposal.uniform = fall_back.update(
        variance.compare_draws(NORMS, NORMS, smoothed_norms=proposal.smoothed_norms())
    )
    assert not proposal.is_uniform
