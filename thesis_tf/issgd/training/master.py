"""The master: trains on examples drawn by weights that workers keep fresh (thesis, 7.4)."""

import time

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.training.model_parameters import read_parameters, spec_of
from thesis_tf.issgd.training.trainer import Trainer
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.master_link import CLAIM_SECONDS, Link

BARRIER_POLL = 0.02
BARRIER_LOG, BARRIER_FIRST_LOG = 30.0, 5.0


class Master(Trainer):
    """Trains a compiled model by importance sampling, with workers that search (figure 7.1).

        master = Master(model, {"train": (x, y)}, open_store("shm://run"))
        master.train(10_000)

    Every `sync_every` steps it takes in the newest weights from the store and hands its parameters
    over, without waiting. With `exact` it waits there until every training example's weight is of
    its present parameters, the barrier of figure 7.1. Without workers it trains uniformly; so it
    does, relaxed, while the store is away.

    Args:
        model: a compiled Keras model. Under a `tf.distribute` strategy's scope each step is shared
            by its devices.
        data: {split: (x, y)}, "train" among them; workers need the same.
        store: a `Store` of its own.
        proposal: a `Proposal` over the training examples; None makes one with its defaults.
        exact: whether to wait at the barrier.
        block_size: examples a block that workers measure at once (original code: 2,048).
        options: `batch_size`, `sync_every`, `folder`, `checkpoint_every`, `log` and `on_sync`, as
            for `Trainer`. A run that was killed goes on from its folder, under the same run id.

    Attributes:
        step: the number of steps taken. Parameters are published under this version, or, after a
            kill, under one that lies above all that were published before it.
        history: the `History`, a record for each synchronisation.
        monitor: the `WeightMonitor`.

    Raises:
        ValueError: the data don't fit one another, or the folder's checkpoint is of another model.
        RunMismatchError, RunTakenError, StoreRefusedError, StoreUnavailableError: of the store.
    """

    def __init__(
        self,
        model,
        data,
        store,
        proposal=None,
        *,
        exact=False,
        block_size=2048,
        **options,
    ):
        super().__init__(model, data, proposal, **options)
        try:
            self._exact, self._store = exact, store
            self._block_size = checks.positive_integer("`block_size`", block_size)
            self._seen, self._ahead = {}, 0
            self._spec = spec_of(
                model, self._steps.objective.loss_name, self.data, self._block_size
            )
            self._link = self._connect()
        except BaseException:
            self._token.release()
            raise

    def _connect(self):
        """Makes or takes over the run in the store; returns the `Link` to it."""
        self._claim()
        head = self._store.head()
        if head is not None and self.step == 0:
            # Left by a run that is over; what it measured is of other parameters.
            self._store.delete()
            self._claim()
        elif head is not None:
            # More may have been published than the checkpoint is of.
            self._ahead = max(0, head + 1 - self.step)
        return Link(self._store, self._spec, self._token.text, self._log)

    def _claim(self):
        self._store.create(self._spec)
        self._store.claim_master(self._token.text, CLAIM_SECONDS)

    def _begin(self):
        if self._link is None:  # an earlier `train` ended it
            self._link = self._connect()
        self._publish()

    def _version(self):
        return self.step + self._ahead

    def _publish(self):
        self._link.publish(self._version(), read_parameters(self.model))

    _after_steps = _publish

    def _end(self, finished):
        draws = [record["uniform"] for record in self.history.records]
        if finished and not self.monitor.proposal.uniform and draws and all(draws):
            self._log(
                "All draws were uniform: workers have measured too few examples, or none. Are there"
                " workers with this store and run id, and did training last longer than they take"
                " to begin?"
            )
        if self._link is not None:
            self._link.close(finished)
            self._link = None

    def _synchronise(self):
        start = clock.now()
        measures = self._take(self._link.pull(self.data))
        if self._exact:
            measures |= self._wait_at_barrier()
        self.monitor.proposal.advance(version=self._version(), time=self._link.store_time)
        return {"waited": clock.now() - start, **measures}

    def _take(self, blocks):
        """Takes in blocks; returns the splits' mean losses and errors where any is new."""
        measures = {}
        for split, pulled in blocks.items():
            if split == "train":
                self.monitor.take_blocks(pulled, self._block_size)
            known = pulled.versions >= 0
            if known.any() and not np.array_equal(pulled.versions, self._seen.get(split)):
                self._seen[split] = pulled.versions
                # The last block may have fewer examples.
                ends = self._block_size * np.arange(len(known) + 1)
                counts = np.diff(np.minimum(ends, len(self.data[split])))[known]
                for name, means in (("loss", pulled.losses), ("error", pulled.errors)):
                    mean = np.average(means[known].astype(np.float64), weights=counts)
                    measures[f"{split}_{name}"] = float(mean)
        return measures

    def _wait_at_barrier(self):
        told, measures = clock.now() - BARRIER_LOG + BARRIER_FIRST_LOG, {}
        while not (self._link.wait(self._version(), 1.0) and self._is_current()):
            if self._stop():
                break
            measures |= self._take(self._link.pull(["train"]))
            if clock.now() - told > BARRIER_LOG:
                told = clock.now()
                self._log(
                    f"Waiting at the barrier for weights of version {self._version()}. Are there"
                    " workers, and can they reach the store?"
                )
            time.sleep(BARRIER_POLL)
        return measures

    def _is_current(self):
        versions = self.monitor.versions
        return versions is not None and bool((versions >= self._version()).all())
