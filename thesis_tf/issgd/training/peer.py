"""Peers: every process trains, and shares gradient norms and parameters (section 7.6)."""

from collections.abc import Callable

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array
from thesis_tf.issgd.stores import Store, StoreUnavailableError
from thesis_tf.issgd.training.history import History
from thesis_tf.issgd.training.model_parameters import mix_parameters, read_parameters, spec_of
from thesis_tf.issgd.training.synchronizer import Pulled, Synchronizer, TrainerParts
from thesis_tf.issgd.transport.peer_connection import PeerConnection


class PeerSynchronizer(Synchronizer):
    """Shares gradient norms and parameters with other peers, without a master or workers.

    The thesis recommends this without having tried it (7.6): gradient norms are a by-product of the
    gradients that a process computes anyway, so no workers are needed. Each peer pushes the norms
    of its training examples, draws by the norms from all peers, and at every
    `syncs_per_exchange`-th synchronization averages its parameters with those of a random other
    peer (gossip). A thread
    communicates with the store: no peer waits, and received data are applied at the next
    synchronization. If a peer dies, the others continue. A peer that joins late begins with the
    parameters of another peer.

    Gradient variances are not measured, because a peer has new norms only of the examples that it
    drew. Give peers proposals of different seeds, so that they draw different examples. The model
    runs on one device, without batch normalization in training mode.

    Args:
        store: a `Store` that nothing else uses.
        name: the peer's name: letters, digits, '.', '_' and '-'; the same after a restart.
        syncs_per_exchange: synchronizations between averages of parameters.
        mixing_fraction: the fraction of the way that parameters move toward those of the other
            peer, in (0, 1]; proportionally less if the other peer has taken fewer steps.
        block_size: examples per block, the same for all peers.

    Raises, when a `Trainer` connects it or trains:
        ValueError: a layer has no per-example gradients in training mode.
        RunMismatchError, StoreRefusedError, StoreUnavailableError: of the store.
        RunTakenError: another peer has this name.
    """

    needs_norms = True

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        syncs_per_exchange: int = 1,
        mixing_fraction: float = 0.5,
        block_size: int = 2048,
    ) -> None:
        self.name = name
        self._store, self._block_size = store, block_size
        self._mixing_fraction = checks.probability("`mixing_fraction`", mixing_fraction)
        self._per_exchange = checks.positive_integer("`syncs_per_exchange`", syncs_per_exchange)
        self._syncs = 0
        self._trainer: TrainerParts
        self._connection: PeerConnection

    def connect(self, trainer: TrainerParts) -> None:
        """Creates the run in the store, or joins it."""
        spec = spec_of(trainer.model, trainer.loss_name, trainer.data, self._block_size)
        self._trainer = trainer
        self._connection = PeerConnection(
            self._store, spec, self.name, len(trainer.data["train"]), log=trainer.log
        )
        self._store.create(spec)

    def begin(self, step: int) -> None:
        """Starts the exchange; a new peer begins with the parameters of another peer."""
        log = self._trainer.log
        try:
            found = self._connection.begin(fresh=step == 0)
        except StoreUnavailableError as problem:
            log(f"The store can't be reached, training begins alone: {problem}")
            self._connection.begin_without()
            return
        if found is not None:
            mix_parameters(self._trainer.model, found.values, 1.0)
            log(f"Begins with the parameters of peer {found.name}.")

    def add_norms(self, rows: Array, norms: np.ndarray, step: int) -> None:
        """Applies the norms of the last steps, and schedules them for the next publication."""
        self._trainer.tracker.proposal.update(rows, norms, step)
        self._connection.add_norms(rows, norms)

    def pull(self, step: int, stop: Callable[[], bool]) -> Pulled:
        """Applies the norms of all peers, and the parameters of another peer, if available."""
        del stop  # nothing waits
        norms, other = self._connection.pull()
        proposal = self._trainer.tracker.proposal
        if norms is not None:
            known = np.flatnonzero(~np.isnan(norms))
            # The store doesn't record when other peers measured their norms; it was recently.
            proposal.update(known, norms[known], step)
        proposal.advance(version=step)
        if other is None:
            return Pulled()
        # A peer that has just begun must not undo what this one has learned.
        fraction = self._mixing_fraction * min(1.0, other.version / max(step, 1))
        if fraction:
            mix_parameters(self._trainer.model, other.values, fraction)
        return Pulled(exchanged_with=other.name)

    def publish(self, step: int) -> None:
        """Schedules the publication of norms, and of parameters if due, without waiting."""
        self._syncs += 1
        due = self._syncs % self._per_exchange == 0
        parameters = read_parameters(self._trainer.model) if due else None
        self._connection.publish(step, parameters)

    def close(self, history: History, *, finished: bool) -> None:
        """Exchanges the data that are waiting."""
        self._connection.close()
