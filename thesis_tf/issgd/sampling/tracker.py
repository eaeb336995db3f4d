"""Follows a run's weights: takes what was pulled into the proposal and watches its variance."""

import dataclasses

import numpy as np

from thesis_tf.issgd.sampling.variance import FallBack, compare


class WeightMonitor:
    """Keeps a `Proposal` up to date and falls back to uniform draws where those are better.

    Where a weight is measured anew, both what draws were made by and the present norm are known:
    over these examples the variances of ideal, stale, uniform and actual draws are compared
    (Eq 7.6-7.9) each time, and the proposal becomes uniform while it is worse than that (weights 50
    steps old were seen to have twice the variance of uniform draws).

    Args:
        proposal: the `Proposal`; if it is `uniform` by now, its draws stay so.
        smoothings: further smoothing rules or numbers whose traces to take (figure 7.4).
        log: called with a sentence when draws become uniform or by weights again.

    Attributes:
        traces: the last `Traces`, None before there are any.
        versions: of each block, int64, -1 for never.
    """

    def __init__(self, proposal, smoothings=(10.0, 1.0), log=lambda message: None):
        self.proposal = proposal
        self.traces, self._record = None, {}
        self.versions = None
        self.fall_back = FallBack()
        self._smoothings, self._log = smoothings, log
        self._values = np.full(proposal.num_examples, np.nan, np.float32)
        # Draws that were to be uniform from the beginning, as a baseline, stay so.
        self._always_uniform = proposal.uniform

    def take_blocks(self, blocks, block_size):
        """Takes in what `Store.pull` returned; returns how many examples are new."""
        if self.versions is None:
            self.versions = np.full_like(blocks.versions, -1)
        fresh = np.flatnonzero(blocks.versions != self.versions)
        if not len(fresh):
            return 0
        count = self.proposal.num_examples
        rows = (fresh[:, np.newaxis] * block_size + np.arange(block_size)).reshape(-1)
        keep = rows < count
        # What was lost with the store and is yet to be measured again is still known here.
        keep &= np.repeat(blocks.versions[fresh], block_size) >= 0
        rows = rows[keep]
        versions = np.repeat(blocks.versions[fresh], block_size)[keep]
        times = np.repeat(blocks.times[fresh], block_size)[keep]
        self.versions[fresh] = blocks.versions[fresh]
        return self.take(rows, blocks.values[rows], versions, times)

    def take(self, rows, norms, version, time=None, true_gradient_squared=0.0):
        """Takes in norms (n,) of examples `rows`, measured now; returns n.

        The squared norm of the true gradient makes traces exact; without it they are bounds.
        """
        old = self._values[rows]
        both = ~(np.isnan(old) | np.isnan(norms))
        if both.sum() > 1:
            self._compare(rows[both], norms[both], old[both], true_gradient_squared)
        self._values[rows] = norms
        self.proposal.update(rows, norms, version, time)
        return len(rows)

    def _compare(self, rows, norms, old, true):
        count = self.proposal.num_examples
        effective = self.proposal.effective_weights()[rows]
        self.traces = compare(norms, old, effective, self._smoothings, true, population=count)
        self._record = record_of(self.traces)
        if true:
            self._record["true_gradient_squared"] = true
        was = self.proposal.uniform
        self.proposal.uniform = self.fall_back.update(self.traces) or self._always_uniform
        if was != self.proposal.uniform:
            self._log(self.fall_back.reason)

    def record(self):
        """Returns `record_of` the traces that were taken since the last call, {} if none were."""
        record, self._record = self._record, {}
        return record

    def state(self):
        """Arrays for a checkpoint, {name: array}."""
        state = {f"proposal_{name}": value for name, value in self.proposal.state().items()}
        state |= {"monitor_values": self._values, "monitor_uniform": self.fall_back.uniform}
        if self.versions is not None:
            state["monitor_versions"] = self.versions
        return state

    def restore(self, state):
        """Takes over what `state` returned."""
        prefix = "proposal_"
        self.proposal.restore(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        self._values = np.array(state["monitor_values"])
        self.fall_back.uniform = bool(state["monitor_uniform"])
        self.versions = state.get("monitor_versions")


def record_of(traces):
    """The traces as {name: float} for a log, with names that JSON and TensorBoard can take."""
    if traces is None:
        return {}
    fields = {f.name: getattr(traces, f.name) for f in dataclasses.fields(traces)}
    named = {f"trace_{k}": fields[k] for k in ("ideal", "stale", "uniform", "actual")}
    return named | {f"trace_stale{rule}": value for rule, value in traces.smoothed.items()}
