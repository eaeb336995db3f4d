"""The master: trains on examples drawn by weights that workers keep fresh (thesis, 7.4)."""

import time
import uuid

from thesis_tf import _checks, _files
from thesis_tf.issgd import clock
from thesis_tf.issgd.link import CLAIM_SECONDS, Link
from thesis_tf.issgd.run import read_parameters, spec_of
from thesis_tf.issgd.trainer import Trainer

TOKEN = "master.txt"
BARRIER_POLL = 0.02
BARRIER_LOG = 30.0


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
        batch_size: examples a step, over all devices; the original code's is 128.
        sync_every: steps between synchronisations (original code: 32 for the weights).
        exact: whether to wait at the barrier.
        block_size: examples a block that workers measure at once (original code: 2,048).
        folder: for the checkpoint and the history; None keeps nothing. A run that was killed goes
            on from there, under the same run id.
        checkpoint_every: steps between checkpoints, taken at the next synchronisation.
        log: called with a sentence when something happens that people would like to know.
        on_sync: called with each record of the history.

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
        batch_size=128,
        sync_every=32,
        exact=False,
        block_size=2048,
        folder=None,
        checkpoint_every=512,
        log=lambda message: None,
        on_sync=lambda record: None,
    ):
        super().__init__(
            model,
            data,
            proposal,
            batch_size=batch_size,
            sync_every=sync_every,
            folder=folder,
            checkpoint_every=checkpoint_every,
            log=log,
            on_sync=on_sync,
        )
        self._exact = exact
        self._block_size = _checks.positive_integer("`block_size`", block_size)
        self._measures, self._ahead = {}, 0
        token = self._own_token()
        spec = spec_of(model, self._steps.objective.loss_name, self.data, self._block_size)
        store.create(spec)
        store.claim_master(token, CLAIM_SECONDS)
        head = store.head()
        if head is not None and self.step == 0:
            # Left by a run that is over; what it measured is of other parameters.
            store.delete()
            store.create(spec)
            store.claim_master(token, CLAIM_SECONDS)
        elif head is not None:
            # More may have been published than the checkpoint is of.
            self._ahead = max(0, head + 1 - self.step)
        self._link = Link(store, spec, token, log)

    def _own_token(self):
        """A name that no other master has; of a run that goes on, the one that it had.

        The claim of a master that was killed is still in the store, and this is the same master.
        """
        if self._folder is None:
            return uuid.uuid4().hex
        path = self._folder / TOKEN
        if not path.exists():
            _files.write_text(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")

    def _begin(self):
        self._publish()

    def _version(self):
        return self.step + self._ahead

    def _publish(self):
        self._link.publish(self._version(), read_parameters(self.model))

    _after_steps = _publish

    def _end(self, finished):
        self._link.close(finished)

    def _synchronise(self):
        start = clock.now()
        self._take(self._link.pull(self.data))
        if self._exact:
            self._wait_at_barrier()
        self.monitor.proposal.advance(version=self._version(), time=self._link.store_time)
        # Measures of splits, as of the blocks that were pulled last.
        return {"waited": clock.now() - start, **self._measures}

    def _take(self, blocks):
        for split, pulled in blocks.items():
            if split == "train":
                self.monitor.take_blocks(pulled, self._block_size)
            known = pulled.versions >= 0
            if known.any():
                self._measures[f"{split}_loss"] = float(pulled.losses[known].mean())
                self._measures[f"{split}_error"] = float(pulled.errors[known].mean())

    def _wait_at_barrier(self):
        told = clock.now()
        while not (self._link.wait(self._version(), 1.0) and self._is_current()):
            self._take(self._link.pull(["train"]))
            if clock.now() - told > BARRIER_LOG:
                told = clock.now()
                self._log(
                    f"Waiting at the barrier for weights of version {self._version()}. Are there"
                    " workers, and can they reach the store?"
                )
            time.sleep(BARRIER_POLL)

    def _is_current(self):
        versions = self.monitor.versions
        return versions is not None and bool((versions >= self._version()).all())
