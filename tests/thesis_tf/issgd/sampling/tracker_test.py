import numpy as np
import pytest

from thesis_tf.issgd import Proposal
from thesis_tf.issgd.sampling.smoothing import Additive, RelativeToMean
from thesis_tf.issgd.sampling.tracker import ProposalTracker
from thesis_tf.issgd.sampling.variance import compare_draws
from thesis_tf.issgd.stores import Blocks

N, SIZE = 22, 8  # two full blocks, and one of 6
NUMBERS = np.arange(N)


def norms(seed=0, size=N):
    return np.random.default_rng(seed).lognormal(sigma=1.0, size=size).astype(np.float32)


def inverted(values):
    """Replaces the smallest value by the largest, and so on."""
    return np.sort(values)[::-1][np.argsort(np.argsort(values))]


def blocks(values, versions, times=None):
    """Returns blocks as from a store; examples of blocks without a version are unknown."""
    versions = np.array(versions, np.int64)
    known = np.repeat(versions, SIZE)[: len(values)] >= 0
    values = np.where(known, values, np.nan).astype(np.float32)
    times = np.where(versions >= 0, 10.0 * versions if times is None else times, np.nan)
    losses, nobody = np.full(len(versions), np.nan, np.float32), np.zeros(len(versions), np.uint64)
    return Blocks(values, versions, times, losses, losses, nobody, 0.0)


def tracked(smoothing=0.0, **options):
    log = options.pop("log", [])
    return ProposalTracker(Proposal(N, smoothing=smoothing, **options), log=log.append), log


def test_variances_are_those_of_the_norms_that_draws_were_made_by():
    tracker, _ = tracked(RelativeToMean(0.5))
    old, new = norms(), norms(1)
    assert tracker.apply(NUMBERS, old, 0) == N
    assert tracker.variances is None
    tracker.apply(NUMBERS, new, 1)
    # Draws used float32 norms plus half their mean.
    actual = old.astype(float) + 0.5 * old.astype(float).mean()
    expected = compare_draws(
        new, old, smoothed_norms=actual, smoothings=(Additive(10.0), Additive(1.0))
    )
    assert tracker.variances.by_draws() == pytest.approx(expected.by_draws(), rel=1e-12)
    assert tracker.variances.by_draws() == pytest.approx(
        {
            "ideal": new.astype(float).mean() ** 2,
            "stale": old.mean() * np.mean(new**2 / old),
            "uniform": np.square(new).mean(),
            "actual": actual.mean() * np.mean(new**2 / actual),
            "stale+10": (old + 10).mean() * np.mean(new**2 / (old + 10)),
            "stale+1": (old + 1).mean() * np.mean(new**2 / (old + 1)),
        },
        rel=1e-6,
    )
    assert tracker.variances.standard_errors["excess"] == 0


def test_a_part_is_compared_where_both_norms_are_known():
    tracker, _ = tracked()
    old, new = norms(), norms(1)
    old[:4] = np.nan
    tracker.apply(NUMBERS, old, 0)
    part = np.array([2, 3, 5, 7, 11, 13])
    fresh = new[part]
    fresh[-1] = np.nan
    tracker.apply(part, fresh, 1)
    both = part[2:-1]
    expected = compare_draws(new[both], old[both], smoothed_norms=old[both], population=N)
    assert tracker.variances.by_draws() == pytest.approx(expected.by_draws(), rel=1e-12)
    assert tracker.variances.standard_errors == pytest.approx(expected.standard_errors, rel=1e-9)
    assert tracker.variances.standard_errors["excess"] > 0
    # An example that is no longer known is drawn like an average one.
    weights = tracker.proposal.smoothed_norms()
    assert weights[13] == weights[0] == pytest.approx(np.nanmean(tracker.proposal._sums.weights()))


def test_one_example_is_not_compared():
    tracker, _ = tracked()
    tracker.apply(NUMBERS, norms(), 0)
    tracker.apply(np.array([3]), np.array([1.0], np.float32), 1)
    assert tracker.variances is None
    assert tracker.proposal.smoothed_norms()[3] == 1.0


def test_draws_become_uniform_while_weights_are_worse_and_it_is_said_once():
    tracker, log = tracked()
    good = norms()
    bad = inverted(good)
    expected = []
    for step, (measured, uniform) in enumerate(
        [
            *((bad, False), (good, True)),  # the draws were by `bad` and should be by `good`
            *((bad, True), (good, True)),
            *((good, False), (good, False)),  # nothing has changed since, so norms are used again
            *((bad, True), (bad, False)),
        ]
    ):
        tracker.apply(NUMBERS, measured, step)
        assert tracker.proposal.uniform == tracker.proposal.is_uniform == uniform, step
        # Nobody asked for uniform draws, and the log doesn't say so.
        reason = tracker.uniform_because
        assert ("larger gradient variance" in reason) if uniform else reason is None
        expected.append(uniform)
    changes = np.count_nonzero(np.diff(expected))
    assert [line.split(":")[0] for line in log] == ["uniform draws", "draws by gradient norms"] * 2
    assert len(log) == changes
    assert "the gradient variance is" in log[0]


def test_draws_that_were_to_be_uniform_stay_so():
    proposal, log = Proposal(N, smoothing=0.0), []
    proposal.uniform = True
    tracker = ProposalTracker(proposal, log=log.append)
    for step in range(3):
        tracker.apply(NUMBERS, norms(), step)
        assert proposal.uniform
    assert tracker.variances.actual < tracker.variances.uniform
    assert tracker.uniform_because == "uniform draws were asked for"
    assert log == []


def test_only_blocks_of_another_version_are_taken():
    tracker, _ = tracked(staleness=3)
    first, second = norms(), norms(1)
    assert tracker.apply_blocks(blocks(first, [-1, -1, -1]), SIZE) == 0
    assert tracker.proposal.usable == 0
    assert tracker.apply_blocks(blocks(first, [0, -1, 4]), SIZE) == SIZE + 6
    assert tracker.proposal.usable == 14 / N
    # Block 0 is new, block 1 is known for the first time, block 2 must not be used again.
    assert tracker.apply_blocks(blocks(second, [5, 2, 4]), SIZE) == 2 * SIZE
    expected = np.concatenate([second[:16], first[16:]])
    np.testing.assert_array_equal(tracker.proposal.smoothed_norms(), expected)
    np.testing.assert_array_equal(tracker.versions, [5, 2, 4])
    compared = compare_draws(second[:8], first[:8], smoothed_norms=first[:8], population=N)
    assert tracker.variances.by_draws() == pytest.approx(compared.by_draws(), rel=1e-12)
    assert tracker.apply_blocks(blocks(norms(2), [5, 2, 4]), SIZE) == 0
    # Each block has a separate age.
    for version, usable in ((5, N), (6, 14), (7, 14), (8, 8), (9, 0)):
        tracker.proposal.advance(version=version)
        assert tracker.proposal.usable == usable / N


def test_each_block_has_its_own_time():
    tracker, _ = tracked(staleness_seconds=20.0)
    tracker.apply_blocks(blocks(norms(), [1, 1, 1], times=np.array([100.0, 130.0, 110.0])), SIZE)
    for time, usable in ((120, N), (121, 14), (131, 8), (151, 0)):
        tracker.proposal.advance(time=time)
        assert tracker.proposal.usable == usable / N


@pytest.mark.parametrize("options", [{}, {"staleness": 2}, {"staleness_seconds": 50.0}], ids=str)
def test_a_block_that_was_lost_keeps_its_weights_until_it_is_measured_again(options):
    tracker, _ = tracked(**options)
    first, second = norms(), norms(1)
    tracker.apply_blocks(blocks(first, [3, 3, 3]), SIZE)
    tracker.proposal.advance(version=4, time=40.0)
    assert tracker.apply_blocks(blocks(first, [-1, 3, -1]), SIZE) == 0
    np.testing.assert_array_equal(tracker.versions, [-1, 3, -1])
    assert tracker.proposal.usable == 1
    assert tracker.variances is None
    np.testing.assert_array_equal(tracker.proposal.smoothed_norms(), first)
    # A new run may begin at the lost version.
    assert tracker.apply_blocks(blocks(second, [3, 3, 3]), SIZE) == 14
    assert tracker.proposal.usable == 1
    rows = np.r_[:8, 16:22]
    compared = compare_draws(second[rows], first[rows], smoothed_norms=first[rows], population=N)
    assert tracker.variances.by_draws() == pytest.approx(compared.by_draws(), rel=1e-12)
    expected = np.concatenate([second[:8], first[8:16], second[16:]])
    np.testing.assert_array_equal(tracker.proposal.smoothed_norms(), expected)


def test_a_restored_state_goes_on_as_the_other_would(tmp_path):
    good = norms()
    bad = inverted(good)
    tracker, _ = tracked(seed=5, staleness=10)
    tracker.apply_blocks(blocks(bad, [0, 0, 0]), SIZE)
    tracker.apply_blocks(blocks(good, [1, -1, 1]), SIZE)
    assert tracker.proposal.uniform
    np.savez(tmp_path / "state.npz", **tracker.state())
    restored, log = tracked(seed=5, staleness=10)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        restored.restore(dict(state))
    for present, values in ((1, bad), (2, good), (3, good), (4, norms(7))):
        for one in (tracker, restored):
            assert one.apply_blocks(blocks(values, [present] * 3), SIZE) == (
                N if present > 1 else 8
            )
            one.proposal.advance(version=present)
        assert tracker.pop_variances() == restored.pop_variances() == tracker.variances
        assert tracker.pop_variances() is None  # they are returned only once
        assert tracker.proposal.uniform == restored.proposal.uniform
        np.testing.assert_array_equal(
            tracker.proposal.sample(30, step=present), restored.proposal.sample(30, step=present)
        )
    assert [line.split(":")[0] for line in log] == ["draws by gradient norms", "uniform draws"]


def test_the_state_before_anything_was_taken():
    tracker, _ = tracked()
    restored, _ = tracked()
    restored.restore(tracker.state())
    assert (restored.versions, restored.variances, restored.proposal.usable) == (None, None, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_true_gradient_that_is_not_finite(value):
    """One example without a finite gradient leaves bounds, by which draws are judged as before."""
    found = []
    for true_gradient_squared in (0.0, value):
        tracker, _ = tracked()
        tracker.apply(NUMBERS, norms(), 0)
        tracker.apply(NUMBERS, norms(1), 1, true_gradient_squared=true_gradient_squared)
        found.append((tracker.variances, tracker.proposal.uniform))
    assert found[0] == found[1]
    assert np.isfinite(found[1][0].actual)
