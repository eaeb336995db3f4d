import numpy as np
import pytest
import scipy.stats

from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.smoothing import (
    Additive,
    RelativeToMean,
    TargetEntropy,
    UniformMixture,
)

N = 1000
RULES = [
    *(Additive(10), Additive(0), RelativeToMean(0.5)),
    *(UniformMixture(0.1), TargetEntropy(0.9)),
]


def lognormal(seed=0, size=N):
    return np.random.default_rng(seed).lognormal(sigma=1.2, size=size)


def partly_known(smoothing=0.5, **options):
    """Returns a proposal with versions 0 to 9, a hundred examples each, and a fifth unknown."""
    weights = lognormal()
    weights[::5] = np.nan
    versions = np.arange(N) // 100
    proposal = Proposal(N, smoothing=smoothing, **options)
    proposal.update(None, weights, versions, time=10.0 * versions)
    return proposal, weights, versions


CASES = {
    "all known": lambda rule: (Proposal(N, smoothing=rule), lognormal()),
    "some unknown": lambda rule: (
        Proposal(N, smoothing=rule),
        np.where(lognormal(1) > 1, lognormal(), np.nan),
    ),
    "versions": lambda rule: (Proposal(N, smoothing=rule, staleness=3), lognormal()),
    "seconds": lambda rule: (Proposal(N, smoothing=rule, staleness_seconds=30), lognormal()),
    "too few": lambda rule: (Proposal(N, smoothing=rule, staleness=3, min_usable=0.9), lognormal()),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_mean_over_the_exact_distribution_is_the_mean_over_all_examples(case, rule):
    proposal, weights = case(rule)
    versions = np.arange(N) // 100
    proposal.update(None, weights, versions, time=10.0 * versions)
    proposal.advance(version=9, time=90.0)
    gradients = np.random.default_rng(2).normal(size=(N, 4))
    q = proposal.probabilities()
    effective = np.ones(N) if proposal.is_uniform else proposal.smoothed_norms()
    scales = effective.mean() / effective
    assert q.sum() == pytest.approx(1, abs=1e-12)
    assert (q > 0).all()
    np.testing.assert_allclose((q * scales) @ gradients, gradients.mean(axis=0), atol=1e-12)
    indices, drawn = proposal.sample(1000)
    np.testing.assert_allclose(drawn, scales[indices], rtol=1e-6)
    assert (indices.dtype, drawn.dtype) == (np.int64, np.float32)


def test_the_mean_over_draws_is_the_mean_over_all_examples(case):
    proposal, weights = case(RelativeToMean(0.2))
    versions = np.arange(N) // 100
    proposal.update(None, weights, versions, time=10.0 * versions)
    proposal.advance(version=9, time=90.0)
    # Norms grew most where they are oldest, so omitting these examples would be visible.
    gradients = np.random.default_rng(3).normal(1.0, 0.5, (N, 4)) * (10 - versions)[:, None]
    indices, scales = proposal.sample(100_000, step=0)
    estimates = scales[:, None] * gradients[indices]
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (abs(estimates.mean(axis=0) - gradients.mean(axis=0)) < 4 * error).all()
    q = proposal.probabilities()
    assert scipy.stats.chisquare(np.bincount(indices, minlength=N), 100_000 * q).pvalue > 1e-3


def test_the_estimate_is_biased_only_if_a_weight_of_zero_is_not_smoothed():
    weights = np.repeat([0.0, 1.0], N // 2)
    for smoothing, reached in ((0.0, False), (RelativeToMean(1.0), True)):
        proposal = Proposal(N, smoothing=smoothing)
        proposal.update(None, weights, 0)
        assert ((proposal.probabilities() > 0).all()) == reached
        assert (proposal.sample(10_000)[0] < N // 2).any() == reached


def test_by_default_no_probability_is_below_half_the_uniform_one():
    proposal = Proposal(N)
    proposal.update(None, np.eye(1, N)[0], 0)
    assert proposal.probabilities().min() == pytest.approx(0.5 / N)
    assert proposal.sample(10_000)[1].max() <= 2


def test_examples_without_a_usable_weight_get_the_mean_of_the_others():
    proposal, weights, versions = partly_known(0.5, staleness=4)
    proposal.advance(version=9)
    usable = ~np.isnan(weights) & (versions >= 5)
    expected = np.where(usable, weights, weights[usable].mean()) + 0.5
    np.testing.assert_allclose(proposal.smoothed_norms(), expected, rtol=1e-12)
    np.testing.assert_allclose(proposal.probabilities(), expected / expected.sum(), rtol=1e-12)
    assert proposal.usable == usable.mean() == 0.4
    assert proposal.entropy() == pytest.approx(scipy.stats.entropy(expected))


@pytest.mark.parametrize("options", [{"staleness": 4}, {"staleness_seconds": 40.0}], ids=str)
def test_weights_are_forgotten_as_the_present_advances(options):
    proposal, weights, versions = partly_known(**options)
    for present in (0, 4, 5, 9, 13, 14):
        proposal.advance(version=present, time=10.0 * present)
        usable = ~np.isnan(weights) & (present - versions <= 4)
        assert proposal.usable == usable.mean()
    assert proposal.uniform_because == "no gradient norm is known, or none is recent enough"
    # Going back in time doesn't restore them; new norms are used.
    proposal.advance(version=0, time=0.0)
    assert proposal.usable == 0
    proposal.update(slice(0, 150), np.ones(150), 14, time=140.0)
    proposal.advance(version=14, time=140.0)
    assert proposal.usable == 0.15
    assert not proposal.is_uniform
    proposal.update([0], [1.0], 1, time=10.0)  # too old when it arrives
    assert proposal.usable == 0.149


def test_without_a_threshold_no_weight_is_too_old():
    proposal, weights, _ = partly_known()
    proposal.advance(version=10**9, time=1e12)
    assert proposal.usable == np.isfinite(weights).mean()


def test_when_draws_are_uniform():
    proposal = Proposal(100, min_usable=0.1)
    assert proposal.uniform_because == "no gradient norm is known, or none is recent enough"
    proposal.update(slice(0, 9), np.arange(9.0), 0)
    assert proposal.uniform_because.startswith("only 9.0% of the gradient norms are known")
    indices, scales = proposal.sample(50_000)
    assert (scales == 1).all()
    assert scipy.stats.chisquare(np.bincount(indices, minlength=100)).pvalue > 1e-3
    assert proposal.entropy() == pytest.approx(np.log(100))
    proposal.update([9], [9.0], 0)
    assert (proposal.uniform_because, proposal.is_uniform) == (None, False)
    weighted = proposal.smoothed_norms()
    proposal.uniform = True
    assert proposal.uniform_because == "uniform draws were asked for"
    assert (proposal.sample(10)[1] == 1).all()
    assert (proposal.probabilities() == 0.01).all()
    np.testing.assert_array_equal(proposal.smoothed_norms(), weighted)
    proposal.uniform = False
    proposal.update(None, np.zeros(100), 1)
    assert proposal.uniform_because == "all gradient norms are 0"
    assert (proposal.smoothed_norms() == 1).all()
    proposal.update(None, np.full(100, np.nan), 1)
    assert proposal.usable == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, int])
def test_weights_of_any_kind(dtype):
    weights = np.arange(N).astype(dtype)[::-1]
    proposal = Proposal(N, smoothing=0.0)
    proposal.update(None, weights, 0)
    np.testing.assert_array_equal(proposal.smoothed_norms(), weights)
    if dtype is not int:
        weights = np.array([-0.0, 5e-324, np.nan], dtype)
        proposal.update([0, 1, 2], weights, 0)
        assert proposal.usable == 1 - 1 / N
        np.testing.assert_array_equal(proposal.smoothed_norms()[:2], weights[:2])
        assert not np.signbit(proposal.probabilities()).any()


def test_the_constant_is_sought_only_after_changes():
    class Counting(RelativeToMean):
        calls = 0

        def constant(self, mean, weights):
            Counting.calls += 1
            return super().constant(mean, weights)

    proposal = Proposal(N, smoothing=Counting(1.0), staleness=2)
    proposal.update(None, lognormal(), 0)
    for present, calls in ((0, 1), (2, 1), (3, 2), (3, 2)):
        proposal.advance(version=present)
        proposal.sample(10)
        assert (proposal.entropy() > 0, Counting.calls) == (True, calls)
    proposal.update([3], [1.0], 3)
    proposal.sample(10)
    assert Counting.calls == 3


def test_one_example():
    proposal = Proposal(1)
    for weights in ([], [0.0], [3.0]):
        proposal.update(np.arange(len(weights)), weights, 0)
        indices, scales = proposal.sample(5)
        assert (indices.tolist(), scales.tolist()) == ([0] * 5, [1.0] * 5)


def test_extreme_weights():
    weights = np.float32(10) ** np.random.default_rng(4).uniform(-30, 30, N).astype(np.float32)
    for rule in RULES:
        proposal = Proposal(N, smoothing=rule)
        proposal.update(None, weights, 0)
        indices, scales = proposal.sample(1000)
        assert np.isfinite(scales).all()
        assert (indices < N).all()


def test_indices():
    proposal = Proposal(10, smoothing=0.0)
    proposal.update(None, np.zeros(10), 0)
    proposal.update(slice(None, None, -3), [9, 6, 3, 0], 0)
    proposal.update(slice(8, 100), np.array([80, 90]), 0)
    proposal.update(np.array([4, 2, 4], np.uint8), [1, 2, 41], 0)
    proposal.update([], [], 0)
    proposal.update(slice(5, 5), [], 0)
    assert proposal.smoothed_norms().tolist() == [0, 0, 2, 3, 41, 0, 6, 0, 80, 90]


def test_of_an_index_that_comes_twice_the_last_weight_and_its_version_stay():
    rng = np.random.default_rng(5)
    indices, weights = rng.integers(0, 50, 500), rng.random(500)
    versions = rng.integers(0, 3, 500)
    proposal = Proposal(50, smoothing=0.0, staleness=0, min_usable=0)
    proposal.update(indices, weights, versions)
    last = {
        index: (weight, version)
        for index, weight, version in zip(indices, weights, versions, strict=True)
    }
    assert proposal.smoothed_norms().tolist() == [last[i][0] for i in range(50)]
    proposal.advance(version=2)
    assert proposal.usable == np.mean([version == 2 for _, version in last.values()])


def test_weights_are_copied():
    proposal, weights = Proposal(N, smoothing=0.0), lognormal()
    proposal.update(None, weights, 0)
    weights[:] = 1
    np.testing.assert_array_equal(proposal.smoothed_norms(), lognormal())


def test_a_draw_depends_on_seed_step_and_weights_alone():
    def draw(seed, step, before=0):
        proposal = Proposal(N, seed=seed)
        for part in np.array_split(np.random.default_rng(before).permutation(N), before + 1):
            proposal.update(part, lognormal()[part], before)
            proposal.sample(before + 1)
        return proposal.sample(64, step=step)

    np.testing.assert_array_equal(draw(0, 5), draw(0, 5, before=3))
    others = [draw(*key)[0].tolist() for key in ((0, 5), (0, 6), (1, 5))]
    assert len(np.unique(others, axis=0)) == 3
    proposal = Proposal(N)
    assert (proposal.sample(64)[0] != proposal.sample(64)[0]).any()
    assert (Proposal(N).sample(64, step=0)[0] != Proposal(N).sample(64)[0]).any()


@pytest.mark.parametrize("options", [{}, {"staleness": 4}, {"staleness_seconds": 40.0}], ids=str)
def test_a_restored_state_draws_the_same(options, tmp_path):
    proposal, _, _ = partly_known(RelativeToMean(0.3), **options)
    proposal.advance(version=6, time=60.0)
    proposal.sample(10)
    np.savez(tmp_path / "state.npz", **proposal.state())
    restored = Proposal(N, smoothing=RelativeToMean(0.3), **options)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        restored.restore(state)
    for present in (6, 8, 20):
        for one in (proposal, restored):
            one.advance(version=present, time=10.0 * present)
        assert proposal.usable == restored.usable
        for step in (None, 7):
            np.testing.assert_array_equal(
                proposal.sample(50, step=step), restored.sample(50, step=step)
            )
    proposal.uniform = True
    restored.restore(proposal.state())
    assert restored.uniform


def test_a_state_of_something_else():
    proposal, _, _ = partly_known()
    with pytest.raises(ValueError, match=r"must be of 7 examples\. Received: one of 1000"):
        Proposal(7).restore(proposal.state())
    timed = Proposal(N, staleness=4, staleness_seconds=10.0)
    before = timed.state()
    with pytest.raises(ValueError, match=r"of a proposal with `staleness`\. Received: one without"):
        timed.restore(proposal.state())
    with pytest.raises(ValueError, match="of a proposal with `staleness_seconds`"):
        timed.restore(partly_known(staleness=4)[0].state())
    for name, value in timed.state().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [1.0, -2.0]), r"at least 0 and at most 1e\+300.*-2.0 at position 1.*norms"),
        (([0, 1], [np.inf, 1.0]), "inf at position 0.*diverged: lower the learning rate"),
        (([0, 10], [1.0, 1.0]), r"`indices` must be in \[0, 10\). Received: values from 0 to 10"),
        (([-1], [1.0]), r"`indices` must be in \[0, 10\)"),
        (([0, 1], [1.0]), r"`norms` must be of shape \(2,\). Received: \(1,\)"),
        ((None, [1.0]), r"`norms` must be of shape \(10,\)"),
        (([0, 1], [1.0, 1.0], [1, 2, 3], 0.0), r"`version` must be a finite number, or \(2,\)"),
        (([0], [1.0], 1), "`time` must be given, since `staleness_seconds` is set"),
        (([0], [1.0], 1, np.nan), "`time` must be a finite number"),
    ],
)
def test_bad_updates_change_nothing(arguments, message):
    proposal = Proposal(10, smoothing=0.0, staleness=5, staleness_seconds=20.0)
    proposal.update(None, np.arange(10.0), 0, time=0.0)
    names = ("indices", "norms", "version", "time")
    given = {"version": 0, **dict(zip(names, arguments, strict=False))}
    with pytest.raises(ValueError, match=message):
        proposal.update(**given)
    np.testing.assert_array_equal(proposal.smoothed_norms(), np.arange(10.0))


@pytest.mark.parametrize("indices", [np.ones(10, bool), [0.5], [[1]], 3, "all"])
def test_bad_indices(indices):
    with pytest.raises(TypeError, match="`indices` must be integers of shape"):
        Proposal(10).update(indices, [1.0], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_examples": 0}, "`num_examples` must be a positive integer"),
        ({"staleness": -1}, "`staleness` must be at least 0, or None"),
        ({"staleness_seconds": np.nan}, "`staleness_seconds` must be at least 0, or None"),
        ({"min_usable": 10}, r"`min_usable` must be in \[0, 1\]"),
        ({"seed": -1}, "`seed` must be a non-negative integer"),
        ({"smoothing": -1}, "`amount` must be a finite number"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Proposal(**{"num_examples": 10, **options})


def test_bad_draws():
    with pytest.raises(ValueError, match="`n` must be a positive integer"):
        Proposal(10).sample(0)
    with pytest.raises(ValueError, match="`step` must be an integer >= 0"):
        Proposal(10).sample(1, step=-1)
