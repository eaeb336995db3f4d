"""Keeps a proposal's gradient norms up to date, and tracks its gradient variance."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from thesis_tf._core.types import Array
from thesis_tf.issgd.sampling.proposal import Proposal
from thesis_tf.issgd.sampling.smoothing import Smoothing
from thesis_tf.issgd.sampling.variance import FallBack, GradientVariances, compare_draws
from thesis_tf.issgd.stores import Blocks


def _ignore(message: str) -> None:
    pass


class ProposalTracker:
    """Updates a `Proposal`, and makes its draws uniform while uniform draws are better.

    If a norm is measured again, both the old norm and the current norm are known. For these
    examples, the gradient variances of ideal, stale, uniform and actual draws are compared
    (Eq. 7.6-7.9), and the proposal becomes uniform while its draws are worse than uniform draws.
    (In an experiment, norms that were 50 steps old had twice the variance of uniform draws.)

    Args:
        proposal: the `Proposal`; if it is already `uniform`, its draws stay uniform.
        smoothings: additional smoothing rules or numbers, whose variances are computed (figure
            7.4).
        log: called with a sentence when draws become uniform, or by gradient norms again.

    Attributes:
        proposal: the `Proposal`.
        variances: the last `GradientVariances`, None before the first.
        versions: for each block the version with which it was measured, int64, -1 for never; None
            before blocks were applied.
        fall_back: the `FallBack`, which decides whether draws are uniform.
    """

    def __init__(
        self,
        proposal: Proposal,
        *,
        smoothings: Sequence[Smoothing | float] = (10.0, 1.0),
        log: Callable[[str], None] = _ignore,
    ) -> None:
        self.proposal = proposal
        self.variances: GradientVariances | None = None
        self.versions: np.ndarray | None = None
        self.fall_back = FallBack()
        self._fresh: GradientVariances | None = None
        self._smoothings, self._log = smoothings, log
        self._norms = np.full(proposal.num_examples, np.nan, np.float32)
        # A baseline's draws, uniform from the start, stay uniform.
        self._always_uniform = proposal.uniform

    @property
    def uniform_because(self) -> str | None:
        """Why draws are uniform now, for a log; None if they are not."""
        if self.proposal.uniform and not self._always_uniform:
            return "draws by these gradient norms have a larger gradient variance than uniform ones"
        return self.proposal.uniform_because

    def apply_blocks(self, blocks: Blocks, block_size: int) -> int:
        """Applies a result of `Store.pull`; returns the number of examples with new norms."""
        if self.versions is None:
            self.versions = np.full_like(blocks.versions, -1)
        fresh = np.flatnonzero(blocks.versions != self.versions)
        if not len(fresh):
            return 0
        rows = (fresh[:, np.newaxis] * block_size + np.arange(block_size)).reshape(-1)
        keep = rows < self.proposal.num_examples
        # Norms that the store has lost are kept here until they are measured again.
        keep &= np.repeat(blocks.versions[fresh], block_size) >= 0
        rows = rows[keep]
        versions = np.repeat(blocks.versions[fresh], block_size)[keep]
        times = np.repeat(blocks.times[fresh], block_size)[keep]
        self.versions[fresh] = blocks.versions[fresh]
        return self.apply(rows, blocks.values[rows], versions, time=times)

    def apply(
        self,
        rows: Array,
        norms: Array,
        version: int | Array,
        *,
        time: float | Array | None = None,
        true_gradient_squared: float = 0.0,
    ) -> int:
        """Applies norms that were just measured.

        Args:
            rows: (n,) integers, the examples.
            norms: (n,) their gradient norms, NaN where unknown.
            version: the version of the parameters, an integer or (n,).
            time: the store's clock when they were measured, a number or (n,).
            true_gradient_squared: the squared norm of the mean gradient over all examples, which
                makes variances exact; with 0 they are upper bounds, as they are if it isn't finite,
                because an example's gradient isn't.

        Returns:
            n.
        """
        old = self._norms[rows]
        both = ~(np.isnan(old) | np.isnan(norms))
        if both.sum() > 1:
            self._compare(rows[both], norms[both], old[both], true_gradient_squared)
        self._norms[rows] = norms
        self.proposal.update(rows, norms, version, time=time)
        return len(rows)

    def pop_variances(self) -> GradientVariances | None:
        """Returns the variances that were computed since the last call, None if none were."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def state(self) -> dict[str, np.ndarray]:
        """Returns arrays for a checkpoint, by name."""
        state = {f"proposal_{name}": value for name, value in self.proposal.state().items()}
        state |= {
            "tracker_norms": self._norms,
            "tracker_uniform": np.asarray(self.fall_back.uniform),
        }
        if self.versions is not None:
            state["tracker_versions"] = self.versions
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        prefix = "proposal_"
        self.proposal.restore(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        self._norms = np.array(state["tracker_norms"])
        self.fall_back.uniform = bool(state["tracker_uniform"])
        self.versions = state.get("tracker_versions")

    def _compare(self, rows: Array, norms: Array, old: Array, true_gradient_squared: float) -> None:
        if not np.isfinite(true_gradient_squared):
            true_gradient_squared = 0.0
        self.variances = self._fresh = compare_draws(
            norms,
            old,
            smoothed_norms=self.proposal.smoothed_norms()[rows],
            smoothings=self._smoothings,
            true_gradient_squared=true_gradient_squared,
            population=self.proposal.num_examples,
        )
        was = self.proposal.uniform
        self.proposal.uniform = self.fall_back.update(self.variances) or self._always_uniform
        if was != self.proposal.uniform and self.fall_back.reason is not None:
            self._log(self.fall_back.reason)
