"""Peers: every process trains, and shares its norms and its parameters (thesis, 7.6)."""

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.stores import StoreUnavailableError
from thesis_tf.issgd.training.model_parameters import mix_parameters, read_parameters, spec_of
from thesis_tf.issgd.training.trainer import Trainer
from thesis_tf.issgd.transport.peer_exchange import Exchange


class Peer(Trainer):
    """Trains by importance sampling beside others of its kind, without a master.

    The thesis recommends it (7.6) and did not try it: gradient norms come with the gradients that
    a process computes anyway, so that no worker is needed to search. Each peer pushes the norms of
    the examples that it trains on, draws by what all peers have pushed, and averages parameters
    with another peer, chosen at random, every `exchange_every` synchronisations (gossip). A thread
    talks with the store: nothing waits for anyone, and what came is taken in at the next
    synchronisation. A peer that dies is missed by no one, and one that joins late begins with
    another's parameters.

    The variances of `Master` are not measured, as a peer knows new norms only of what it drew.

    Args:
        model: a compiled Keras model, on one device, without batch normalisation in training mode.
        data: {split: (x, y)}, "train" among them; all peers need the same.
        store: a `Store` of its own.
        name: by which it is known, of letters, digits, '.', '_' and '-'; the same after a restart.
        proposal: a `Proposal`; peers with different seeds draw different examples.
        exchange_every: synchronisations between averages.
        share: how far parameters move towards the other peer's, in (0, 1]; less, in proportion, if
            that has taken fewer steps.
        block_size: examples a block, as all peers have it.
        options: `batch_size`, `sync_every`, `folder` (each peer its own), `checkpoint_every`, `log`
            and `on_sync`, as for `Trainer`.

    Raises:
        ValueError: a layer has no gradients of single examples in training mode.
        RunMismatchError, StoreRefusedError, StoreUnavailableError: of the store.
        RunTakenError: of `train`, if another peer has its name.
    """

    def __init__(
        self,
        model,
        data,
        store,
        name,
        proposal=None,
        *,
        exchange_every=1,
        share=0.5,
        block_size=2048,
        **options,
    ):
        if not 0 < share <= 1:
            raise checks.invalid("`share`", "in (0, 1]", share)
        super().__init__(model, data, proposal, norms=True, **options)
        self.name, self._share = name, share
        self._exchange_every = checks.positive_integer("`exchange_every`", exchange_every)
        self._syncs = 0
        try:
            spec = spec_of(model, self._steps.objective.loss_name, self.data, block_size)
            self._exchange = Exchange(store, spec, name, len(self._train), self._log)
            store.create(spec)
        except BaseException:
            self._token.release()
            raise

    def _begin(self):
        fresh = self.step == 0
        try:
            found = self._exchange.begin(fresh)
        except StoreUnavailableError as problem:
            self._log(f"The store is away, training begins alone: {problem}")
            self._exchange.begin_without()
        else:
            if found is not None:
                other, _, parameters = found
                mix_parameters(self.model, parameters, 1.0)
                self._log(f"Begins with the parameters of peer {other}.")

    def _measured(self, rows, squared_norms):
        norms = np.sqrt(squared_norms).astype(np.float32)
        norms[~np.isfinite(norms)] = np.nan
        self.monitor.proposal.update(rows, norms, self.step)
        self._exchange.measured(rows, norms)

    def _synchronise(self):
        norms, theirs = self._exchange.take()
        if norms is not None:
            known = np.flatnonzero(~np.isnan(norms))
            # When others measured theirs isn't stored; it was a short while ago.
            self.monitor.proposal.update(known, norms[known], self.step)
        self.monitor.proposal.advance(version=self.step)
        if theirs is None:
            return {}
        other, version, parameters = theirs
        # One that has only begun must not undo what this one has learned.
        share = self._share * min(1.0, version / max(self.step, 1))
        if share:
            mix_parameters(self.model, parameters, share)
        return {"exchanged_with": other}

    def _after_steps(self):
        self._syncs += 1
        due = self._syncs % self._exchange_every == 0
        self._exchange.offer(self.step, read_parameters(self.model) if due else None)

    def _end(self, finished):
        self._exchange.close()
