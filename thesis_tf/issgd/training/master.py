"""The master: trains on examples drawn by gradient norms that workers measure (section 7.4)."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.stores import Blocks, RunSpec, Store
from thesis_tf.issgd.training.history import History
from thesis_tf.issgd.training.model_parameters import read_parameters, spec_of
from thesis_tf.issgd.training.synchronizer import Pulled, Synchronizer, TrainerParts
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.master_connection import CLAIM_SECONDS, MasterConnection

BARRIER_POLL = 0.02
BARRIER_LOG, BARRIER_FIRST_LOG = 30.0, 5.0


class MasterSynchronizer(Synchronizer):
    """Publishes parameters to workers, and pulls the gradient norms that they measure (figure 7.1).

    In relaxed mode, it applies the norms that are available at each synchronization, and never
    waits. With `exact`, it waits until every training example's norm has been measured with the
    current parameters, the barrier of figure 7.1. Without workers, draws are uniform. While the
    store can't be reached, training continues with known norms; only `exact` waits.

    Args:
        store: a `Store` that nothing else uses.
        exact: whether to wait at the barrier.
        block_size: examples per block that a worker measures at once (original code: 2,048).

    Raises, when a `Trainer` connects it:
        RunMismatchError, RunTakenError, StoreRefusedError, StoreUnavailableError: of the store.
    """

    def __init__(self, store: Store, *, exact: bool = False, block_size: int = 2048) -> None:
        self._store, self._exact = store, exact
        self._block_size = checks.positive_integer("`block_size`", block_size)
        self._seen: dict[str, np.ndarray] = {}
        self._ahead = 0
        self._trainer: TrainerParts
        self._spec: RunSpec
        self._connection: MasterConnection | None = None

    def connect(self, trainer: TrainerParts) -> None:
        """Creates the run in the store, or takes it over."""
        self._trainer = trainer
        self._spec = spec_of(trainer.model, trainer.loss_name, trainer.data, self._block_size)
        self._connection = self._connected(trainer.step)

    def begin(self, step: int) -> None:
        """Publishes the current parameters."""
        if self._connection is None:  # an earlier training closed it
            self._connection = self._connected(step)
        self.publish(step)

    def pull(self, step: int, stop: Callable[[], bool]) -> Pulled:
        """Applies available gradient norms; with `exact`, waits until all are up to date."""
        start = clock.now()
        losses, errors = self._apply(self._open.pull(self._trainer.data))
        if self._exact:
            self._wait_at_barrier(step, stop, losses, errors)
        proposal = self._trainer.tracker.proposal
        proposal.advance(version=self.version(step), time=self._open.store_time)
        return Pulled(losses=losses, errors=errors, waited=clock.now() - start)

    def publish(self, step: int) -> None:
        """Schedules the publication of the parameters, without waiting."""
        self._open.publish(self.version(step), read_parameters(self._trainer.model))

    def version(self, step: int) -> int:
        """Returns the step, or after a kill a number above all versions published before it."""
        return step + self._ahead

    def close(self, history: History, *, finished: bool) -> None:
        """Publishes what is waiting, and tells the workers if the training is finished."""
        draws = [record.uniform for record in history.records]
        asked_for = self._trainer.tracker.proposal.uniform
        if finished and not asked_for and draws and all(draws):
            self._trainer.log(
                "All draws were uniform: workers have measured too few examples, or none. Are there"
                " workers with this store and run id, and was training longer than their start-up"
                " time?"
            )
        if self._connection is not None:
            self._connection.close(finished)
            self._connection = None

    @property
    def _open(self) -> MasterConnection:
        assert self._connection is not None
        return self._connection

    def _connected(self, step: int) -> MasterConnection:
        self._claim()
        head = self._store.head()
        if head is not None and step == 0:
            # The run in the store is finished: its gradient norms are for other parameters.
            self._store.delete()
            self._claim()
        elif head is not None:
            # Parameters of steps after the checkpoint may have been published.
            self._ahead = max(0, head + 1 - step)
        trainer = self._trainer
        return MasterConnection(self._store, self._spec, trainer.token, log=trainer.log)

    def _claim(self) -> None:
        self._store.create(self._spec)
        self._store.claim_master(self._trainer.token, CLAIM_SECONDS)

    def _apply(self, blocks: Mapping[str, Blocks]) -> tuple[dict[str, float], dict[str, float]]:
        """Applies blocks; returns the mean losses and errors of the splits with new blocks."""
        losses, errors = {}, {}
        for split, pulled in blocks.items():
            if split == "train":
                self._trainer.tracker.apply_blocks(pulled, self._block_size)
            known = pulled.versions >= 0
            if known.any() and not np.array_equal(pulled.versions, self._seen.get(split, ())):
                self._seen[split] = pulled.versions
                # The last block may have fewer examples.
                ends = self._block_size * np.arange(len(known) + 1)
                counts = np.diff(np.minimum(ends, len(self._trainer.data[split])))[known]
                losses[split] = _mean(pulled.losses[known], counts)
                errors[split] = _mean(pulled.errors[known], counts)
        return losses, errors

    def _wait_at_barrier(
        self,
        step: int,
        stop: Callable[[], bool],
        losses: dict[str, float],
        errors: dict[str, float],
    ) -> None:
        version = self.version(step)
        logged = clock.now() - BARRIER_LOG + BARRIER_FIRST_LOG
        while not (self._open.wait(version, 1.0) and self._is_current(version)):
            if stop():
                break
            more_losses, more_errors = self._apply(self._open.pull(["train"]))
            losses |= more_losses
            errors |= more_errors
            if clock.now() - logged > BARRIER_LOG:
                logged = clock.now()
                self._trainer.log(
                    f"Waiting at the barrier for gradient norms of version {version}. Are there"
                    " workers, and can they reach the store?"
                )
            time.sleep(BARRIER_POLL)

    def _is_current(self, version: int) -> bool:
        versions = self._trainer.tracker.versions
        return versions is not None and bool((versions >= version).all())


def _mean(values: np.ndarray, counts: np.ndarray) -> float:
    return float(np.average(values.astype(np.float64), weights=counts))
