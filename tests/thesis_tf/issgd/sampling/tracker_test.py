import numpy as np
import pytest

from thesis_tf.issgd import Proposal
from thesis_tf.issgd.sampling.smoothing import Additive, RelativeToMean
from thesis_tf.issgd.sampling.tracker import WeightMonitor, record_of
from thesis_tf.issgd.sampling.variance import compare
from thesis_tf.issgd.stores import Blocks

N, SIZE = 22, 8  # two whole blocks, and one of 6
NUMBERS = np.arange(N)


def norms(seed=0, size=N):
    return np.random.default_rng(seed).lognormal(sigma=1.0, size=size).astype(np.float32)


def inverted(values):
    """The largest value for the smallest, and so on."""
    return np.sort(values)[::-1][np.argsort(np.argsort(values))]


def blocks(values, versions, times=None):
    """What a store returns; examples of blocks without a version are unknown."""
    versions = np.array(versions, np.int64)
    known = np.repeat(versions, SIZE)[: len(values)] >= 0
    values = np.where(known, values, np.nan).astype(np.float32)
    times = np.where(versions >= 0, 10.0 * versions if times is None else times, np.nan)
    losses, nobody = np.full(len(versions), np.nan, np.float32), np.zeros(len(versions), np.uint64)
    return Blocks(values, versions, times, losses, losses, nobody, 0.0)


def monitored(smoothing=0.0, **options):
    log = options.pop("log", [])
    return WeightMonitor(Proposal(N, smoothing, **options), (10.0, 1.0), log.append), log


def test_traces_are_those_of_the_weights_that_draws_were_made_by():
    monitor, _ = monitored(RelativeToMean(0.5))
    old, new = norms(), norms(1)
    assert monitor.take(NUMBERS, old, 0) == N
    assert monitor.traces is None
    monitor.take(NUMBERS, new, 1)
    # Draws were made by float32 norms plus half their mean.
    actual = old.astype(float) + 0.5 * old.astype(float).mean()
    expected = compare(new, old, actual, (Additive(10.0), Additive(1.0)))
    assert record_of(monitor.traces) == pytest.approx(record_of(expected), rel=1e-12)
    assert record_of(monitor.traces) == pytest.approx(
        {
            "trace_ideal": new.astype(float).mean() ** 2,
            "trace_stale": old.mean() * np.mean(new**2 / old),
            "trace_uniform": np.square(new).mean(),
            "trace_actual": actual.mean() * np.mean(new**2 / actual),
            "trace_stale+10": (old + 10).mean() * np.mean(new**2 / (old + 10)),
            "trace_stale+1": (old + 1).mean() * np.mean(new**2 / (old + 1)),
        },
        rel=1e-6,
    )
    assert monitor.traces.standard_errors["excess"] == 0
    assert record_of(None) == {}


def test_a_part_is_compared_where_both_norms_are_known():
    monitor, _ = monitored()
    old, new = norms(), norms(1)
    old[:4] = np.nan
    monitor.take(NUMBERS, old, 0)
    part = np.array([2, 3, 5, 7, 11, 13])
    fresh = new[part]
    fresh[-1] = np.nan
    monitor.take(part, fresh, 1)
    both = part[2:-1]
    expected = compare(new[both], old[both], old[both], (10.0, 1.0), population=N)
    assert record_of(monitor.traces) == pytest.approx(record_of(expected), rel=1e-12)
    assert monitor.traces.standard_errors == pytest.approx(expected.standard_errors, rel=1e-9)
    assert monitor.traces.standard_errors["excess"] > 0
    # The example that is no longer known is drawn as an average one.
    weights = monitor.proposal.effective_weights()
    assert weights[13] == weights[0] == pytest.approx(np.nanmean(monitor.proposal._sums.weights()))


def test_one_example_is_not_compared():
    monitor, _ = monitored()
    monitor.take(NUMBERS, norms(), 0)
    monitor.take(np.array([3]), np.array([1.0], np.float32), 1)
    assert monitor.traces is None
    assert monitor.proposal.effective_weights()[3] == 1.0


def test_draws_become_uniform_while_weights_are_worse_and_it_is_said_once():
    monitor, log = monitored()
    good = norms()
    bad = inverted(good)
    expected = []
    for step, (measured, uniform) in enumerate(
        [
            *((bad, False), (good, True)),  # the draws were by `bad` and should be by `good`
            *((bad, True), (good, True)),
            *((good, False), (good, False)),  # nothing has changed since: by weights again
            *((bad, True), (bad, False)),
        ]
    ):
        monitor.take(NUMBERS, measured, step)
        assert monitor.proposal.uniform == monitor.proposal.is_uniform == uniform, step
        expected.append(uniform)
    changes = np.count_nonzero(np.diff(expected))
    assert [line.split(":")[0] for line in log] == ["uniform draws", "draws by weights"] * 2
    assert len(log) == changes
    assert "their trace is" in log[0]


def test_draws_that_were_to_be_uniform_stay_so():
    proposal, log = Proposal(N, 0.0), []
    proposal.uniform = True
    monitor = WeightMonitor(proposal, log=log.append)
    for step in range(3):
        monitor.take(NUMBERS, norms(), step)
        assert proposal.uniform
    assert monitor.traces.actual < monitor.traces.uniform
    assert log == []


def test_only_blocks_of_another_version_are_taken():
    monitor, _ = monitored(staleness=3)
    first, second = norms(), norms(1)
    assert monitor.take_blocks(blocks(first, [-1, -1, -1]), SIZE) == 0
    assert monitor.proposal.usable == 0
    assert monitor.take_blocks(blocks(first, [0, -1, 4]), SIZE) == SIZE + 6
    assert monitor.proposal.usable == 14 / N
    # Block 0 is new, block 1 is the first of its kind, block 2 must not be read again.
    assert monitor.take_blocks(blocks(second, [5, 2, 4]), SIZE) == 2 * SIZE
    expected = np.concatenate([second[:16], first[16:]])
    np.testing.assert_array_equal(monitor.proposal.effective_weights(), expected)
    np.testing.assert_array_equal(monitor.versions, [5, 2, 4])
    compared = compare(second[:8], first[:8], first[:8], (10.0, 1.0), population=N)
    assert record_of(monitor.traces) == pytest.approx(record_of(compared), rel=1e-12)
    assert monitor.take_blocks(blocks(norms(2), [5, 2, 4]), SIZE) == 0
    # Each block's age is its own.
    for version, usable in ((5, N), (6, 14), (7, 14), (8, 8), (9, 0)):
        monitor.proposal.advance(version)
        assert monitor.proposal.usable == usable / N


def test_each_block_has_its_own_time():
    monitor, _ = monitored(staleness_seconds=20.0)
    monitor.take_blocks(blocks(norms(), [1, 1, 1], times=np.array([100.0, 130.0, 110.0])), SIZE)
    for time, usable in ((120, N), (121, 14), (131, 8), (151, 0)):
        monitor.proposal.advance(time=time)
        assert monitor.proposal.usable == usable / N


@pytest.mark.parametrize("options", [{}, {"staleness": 2}, {"staleness_seconds": 50.0}], ids=str)
def test_a_block_that_was_lost_keeps_its_weights_until_it_is_measured_again(options):
    monitor, _ = monitored(**options)
    first, second = norms(), norms(1)
    monitor.take_blocks(blocks(first, [3, 3, 3]), SIZE)
    monitor.proposal.advance(4, 40.0)
    assert monitor.take_blocks(blocks(first, [-1, 3, -1]), SIZE) == 0
    np.testing.assert_array_equal(monitor.versions, [-1, 3, -1])
    assert monitor.proposal.usable == 1
    assert monitor.traces is None
    np.testing.assert_array_equal(monitor.proposal.effective_weights(), first)
    # A new run may begin at the version that was lost.
    assert monitor.take_blocks(blocks(second, [3, 3, 3]), SIZE) == 14
    assert monitor.proposal.usable == 1
    rows = np.r_[:8, 16:22]
    compared = compare(second[rows], first[rows], first[rows], (10.0, 1.0), population=N)
    assert record_of(monitor.traces) == pytest.approx(record_of(compared), rel=1e-12)
    expected = np.concatenate([second[:8], first[8:16], second[16:]])
    np.testing.assert_array_equal(monitor.proposal.effective_weights(), expected)


def test_a_restored_state_goes_on_as_the_other_would(tmp_path):
    good = norms()
    bad = inverted(good)
    monitor, _ = monitored(seed=5, staleness=10)
    monitor.take_blocks(blocks(bad, [0, 0, 0]), SIZE)
    monitor.take_blocks(blocks(good, [1, -1, 1]), SIZE)
    assert monitor.proposal.uniform
    np.savez(tmp_path / "state.npz", **monitor.state())
    restored, log = monitored(seed=5, staleness=10)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        restored.restore(dict(state))
    for present, values in ((1, bad), (2, good), (3, good), (4, norms(7))):
        for one in (monitor, restored):
            assert one.take_blocks(blocks(values, [present] * 3), SIZE) == (N if present > 1 else 8)
            one.proposal.advance(present)
        assert monitor.record() == restored.record() == record_of(monitor.traces)
        assert monitor.record() == {}  # once is enough
        assert monitor.proposal.uniform == restored.proposal.uniform
        np.testing.assert_array_equal(
            monitor.proposal.sample(30, step=present), restored.proposal.sample(30, step=present)
        )
    assert [line.split(":")[0] for line in log] == ["draws by weights", "uniform draws"]


def test_the_state_before_anything_was_taken():
    monitor, _ = monitored()
    restored, _ = monitored()
    restored.restore(monitor.state())
    assert (restored.versions, restored.traces, restored.proposal.usable) == (None, None, 0)
