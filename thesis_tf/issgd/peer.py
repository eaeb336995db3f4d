"""Peers: every process trains, and shares its norms and its parameters (thesis, 7.6)."""

import numpy as np

from thesis_tf import _checks
from thesis_tf.issgd import clock
from thesis_tf.issgd.run import mix_parameters, read_parameters, spec_of
from thesis_tf.issgd.stores import RunNotFoundError, StoreUnavailableError
from thesis_tf.issgd.trainer import Trainer

PEER = "peer"
RETRY_SECONDS = 5.0
# Norms in one go: a Redis server does nothing else meanwhile.
MOST_PUSHED = 65_536


class Peer(Trainer):
    """Trains by importance sampling beside others of its kind, without a master.

    The thesis recommends it (7.6) and did not try it: gradient norms come with the gradients that
    a process computes anyway, so that no worker is needed to search. Each peer pushes the norms of
    the examples that it trains on, draws by what all peers have pushed, and averages parameters
    with another peer, chosen at random, every `exchange_every` synchronisations (gossip). Nothing
    waits for anyone; a peer that dies is missed by no one, and one that joins late begins with
    another's parameters.

    The variances of `Master` are not measured, as a peer knows new norms only of what it drew.

    Args:
        model: a compiled Keras model, on one device, without batch normalisation in training mode.
        data: {split: (x, y)}, "train" among them; all peers need the same.
        store: a `Store` of its own.
        name: by which it is known, of letters, digits, '.', '_' and '-'; the same after a restart.
        proposal: a `Proposal`; peers with different seeds draw different examples.
        batch_size: examples a step of this peer.
        sync_every: steps between synchronisations.
        exchange_every: synchronisations between averages.
        share: how far parameters move towards the other peer's, in (0, 1].
        block_size: examples a block, as all peers have it.
        folder, checkpoint_every, log, on_sync: as for `Master`; a folder for each peer.

    Raises:
        ValueError: a layer has no gradients of single examples in training mode.
        RunMismatchError, StoreRefusedError: of the store.
    """

    def __init__(
        self,
        model,
        data,
        store,
        name,
        proposal=None,
        *,
        batch_size=128,
        sync_every=32,
        exchange_every=1,
        share=0.5,
        block_size=2048,
        folder=None,
        checkpoint_every=512,
        log=lambda message: None,
        on_sync=lambda record: None,
    ):
        if not 0 < share <= 1:
            raise _checks.invalid("`share`", "in (0, 1]", share)
        super().__init__(
            model,
            data,
            proposal,
            batch_size=batch_size,
            sync_every=sync_every,
            folder=folder,
            checkpoint_every=checkpoint_every,
            norms=True,
            log=log,
            on_sync=on_sync,
        )
        self.name, self._store, self._share = name, store, share
        self._exchange_every = _checks.positive_integer("`exchange_every`", exchange_every)
        self._spec = spec_of(model, self._steps.objective.loss_name, self.data, block_size)
        self._syncs, self._retry_at = 0, -np.inf
        # Of each example the last norm, and whether it is yet to be pushed.
        self._norms = np.full(len(self._train), np.nan, np.float32)
        self._unpushed = np.zeros(len(self._train), bool)
        self._exchanged_with = None
        store.create(self._spec)

    def _begin(self):
        if self.step == 0:
            self._with_store(lambda: self._exchange(share=1.0))

    def _measured(self, rows, squared_norms):
        norms = np.sqrt(squared_norms).astype(np.float32)
        norms[~np.isfinite(norms)] = np.nan
        self.monitor.proposal.update(rows, norms, self.step)
        self._norms[rows], self._unpushed[rows] = norms, True

    def _synchronise(self):
        self.monitor.proposal.advance(version=self.step)
        return {"exchanged_with": self._exchanged_with} if self._exchanged_with else {}

    def _after_steps(self):
        self._syncs += 1
        self._exchanged_with = None
        self._with_store(self._share_norms)
        if self._syncs % self._exchange_every == 0:
            self._with_store(lambda: self._exchange(self._share))

    def _share_norms(self):
        rows = np.flatnonzero(self._unpushed)
        for start in range(0, len(rows), MOST_PUSHED):
            part = rows[start : start + MOST_PUSHED]
            self._store.push_examples("train", part, self._norms[part])
            self._unpushed[part] = False
        values = self._store.pull("train").values
        known = np.flatnonzero(~np.isnan(values))
        # When others measured theirs isn't stored; it was a short while ago.
        self.monitor.proposal.update(known, values[known], self.step)

    def _exchange(self, share):
        """Publishes this peer's parameters, and moves them towards another's."""
        self._store.heartbeat(PEER, self.name)
        others = [name for name in self._store.alive(PEER, 60.0) if name != self.name]
        if others:
            other = others[np.random.default_rng([self.step, len(others)]).integers(len(others))]
            theirs = self._store.fetch(slot=other)
            if theirs is not None:
                mix_parameters(self.model, theirs.values, share)
                self._exchanged_with = other
        head = self._store.head(slot=self.name)
        # After a kill the checkpoint may be behind what was published.
        version = self.step if head is None else max(self.step, head + 1)
        self._store.publish(read_parameters(self.model), version, slot=self.name)

    def _with_store(self, action):
        """Does something with the store, unless it is away; then training goes on alone."""
        if clock.now() < self._retry_at:
            return
        try:
            try:
                action()
            except RunNotFoundError:
                self._store.create(self._spec)
                self._unpushed = ~np.isnan(self._norms)
                self._log("The run was lost from the store; it was made again.")
        except StoreUnavailableError as problem:
            if self._retry_at == -np.inf:
                self._log(f"The store is away, training goes on alone: {problem}")
            self._retry_at = clock.now() + RETRY_SECONDS
        else:
            if self._retry_at > -np.inf:
                self._log("The store is back.")
            self._retry_at = -np.inf
