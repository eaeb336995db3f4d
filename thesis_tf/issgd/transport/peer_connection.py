"""A peer's connection to its store, in a thread, so that training never waits for it."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from thesis_tf._core.types import Array
from thesis_tf.issgd.stores import RunSpec, RunTakenError, Store
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.store_thread import StoreThread

PEER = "peer"
HEARTBEAT_SECONDS = 5.0
ALIVE_SECONDS = 60.0
LAST_SECONDS = 60.0  # to exchange what is waiting at the end
# Norms per command: a Redis server executes nothing else meanwhile.
MOST_PUSHED = 65_536


@dataclasses.dataclass(frozen=True)
class PeerParameters:
    """Parameters that another peer published.

    Attributes:
        name: the peer's name.
        version: the version under which it published them.
        values: the parameters, uint8 (bytes,).
    """

    name: str
    version: int
    values: np.ndarray


class PeerConnection(StoreThread):
    """Pushes a peer's gradient norms, pulls those of all, and exchanges parameters with another.

    Args:
        store: a `Store` whose run was created.
        spec: the `RunSpec`, to create the run again.
        name: the peer's name.
        num_examples: the number of training examples.
        log: called with a sentence when the store can't be reached, and when it can be again.
    """

    def __init__(
        self,
        store: Store,
        spec: RunSpec,
        name: str,
        num_examples: int,
        *,
        log: Callable[[str], None],
    ) -> None:
        super().__init__(store, spec, log=log)
        self._name = name
        # Each example's last norm, and whether it must still be pushed.
        self._norms = np.full(num_examples, np.nan, np.float32)
        self._unpushed = np.zeros(num_examples, bool)
        self._offer: tuple[int, np.ndarray | None] | None = None  # the newest (step, parameters)
        # The data received since the last `pull`.
        self._pulled_norms: np.ndarray | None = None
        self._pulled_parameters: PeerParameters | None = None
        self._published: int | None = None  # the version that this peer last left in its slot

    def begin(self, *, fresh: bool) -> PeerParameters | None:
        """Joins the run, and starts the thread.

        Args:
            fresh: whether this peer starts without a checkpoint. It then deletes a run in which no
                peer is alive, because that belongs to a training that ended.

        Returns:
            Another peer's parameters, for a fresh peer to start from, or None.

        Raises:
            StoreUnavailableError: the store can't be reached; `begin` may be called again.
            RunTakenError: this peer is fresh, and another peer with its name was alive recently.
        """
        self._store.create(self._spec)
        if fresh and self._name in self._store.alive(PEER, 3 * HEARTBEAT_SECONDS):
            raise RunTakenError(
                f"A peer with the name {self._name!r} was alive a few seconds ago. Choose another"
                f" name; if that peer has ended, wait for {3 * HEARTBEAT_SECONDS:.0f} s."
            )
        others = self._others()
        if fresh and not others:
            self._store.delete()
            self._store.create(self._spec)
        self._published = self._store.head(slot=self._name)
        self._store.heartbeat(PEER, self._name)
        self._pulled_norms = self._store.pull("train").values
        found = self._fetch(others, 0) if fresh else None
        self._start()
        return found

    def begin_without(self) -> None:
        """Starts the thread although the store can't be reached."""
        self._published = None
        self._away_since = clock.now()
        self._start()

    def add_norms(self, rows: Array, norms: np.ndarray) -> None:
        """Schedules the norms (n,) of examples `rows` to be pushed by the next `publish`."""
        with self._condition:
            self._norms[rows], self._unpushed[rows] = norms, True

    def publish(self, step: int, parameters: np.ndarray | None) -> None:
        """Schedules an exchange of norms, and of parameters unless they are None.

        It replaces a waiting exchange, but keeps its parameters if it has none.
        """
        with self._condition:
            if parameters is None and self._offer is not None:
                parameters = self._offer[1]
            self._offer = (step, parameters)
            self._condition.notify_all()

    def pull(self) -> tuple[np.ndarray | None, PeerParameters | None]:
        """Returns the data received since the last call.

        Returns:
            (the norms (N,) of all peers, NaN where unknown, or None; another peer's parameters, or
            None).

        Raises:
            RunTakenError: another peer has the same name.
        """
        with self._condition:
            found = self._pulled_norms, self._pulled_parameters
            self._pulled_norms = self._pulled_parameters = None
        self._raise()
        return found

    def close(self) -> None:
        """Exchanges waiting data, unless the store can't be reached, and ends the thread."""
        if self._thread is not None:
            self._stop(lambda: self._offer is None, LAST_SECONDS)
            self._thread = None

    def _work_once(self) -> None:
        with self._condition:
            if not self.away:
                self._condition.wait_for(self._is_due, HEARTBEAT_SECONDS)
            offer = self._offer
        self._store.heartbeat(PEER, self._name)
        if offer is None:
            return
        step, parameters = offer
        self._push()
        norms = self._store.pull("train").values
        other = None
        if parameters is not None:
            other = self._fetch(self._others(), step)
            self._publish_parameters(step, parameters)
        with self._condition:
            self._pulled_norms = norms
            self._pulled_parameters = other or self._pulled_parameters
            if self._offer is offer:
                self._offer = None
            self._condition.notify_all()

    def _is_due(self) -> bool:
        return self._stopping or self._offer is not None

    def _push(self) -> None:
        with self._condition:
            rows = np.flatnonzero(self._unpushed)
            norms = self._norms[rows]
            self._unpushed[rows] = False
        for start in range(0, len(rows), MOST_PUSHED):
            part = slice(start, start + MOST_PUSHED)
            try:
                self._store.push_examples("train", rows[part], norms[part])
            except BaseException:
                with self._condition:
                    self._unpushed[rows[start:]] = True
                raise

    def _others(self) -> list[str]:
        return [n for n in self._store.alive(PEER, ALIVE_SECONDS) if n != self._name]

    def _fetch(self, others: Sequence[str], step: int) -> PeerParameters | None:
        if not others:
            return None
        other = others[int(np.random.default_rng([step, len(others)]).integers(len(others)))]
        found = self._store.fetch(slot=other)
        return None if found is None else PeerParameters(other, found.version, found.values)

    def _publish_parameters(self, step: int, parameters: np.ndarray) -> None:
        head = self._store.head(slot=self._name)
        if head is not None and self._published is not None and head > self._published:
            raise RunTakenError(
                f"Another peer with the name {self._name!r} trains in this run. Stop it, or choose"
                " another name for this one."
            )
        # After a kill, the checkpoint may be older than the published parameters.
        version = step if head is None else max(step, head + 1)
        self._store.publish(parameters, version, slot=self._name)
        self._published = version

    def _make_again(self) -> None:
        self._store.create(self._spec)
        with self._condition:
            self._unpushed = ~np.isnan(self._norms)
        self._published = None
