"""A peer's connection to its store, in a thread, so that training never waits for it."""

import numpy as np

from thesis_tf.issgd.stores import RunTakenError
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.store_thread import StoreThread

PEER = "peer"
HEARTBEAT_SECONDS = 5.0
ALIVE_SECONDS = 60.0
LAST_SECONDS = 60.0  # for what is waiting at the end
# Norms in one go: a Redis server does nothing else meanwhile.
MOST_PUSHED = 65_536


class Exchange(StoreThread):
    """Pushes a peer's norms, pulls everybody's, and swaps parameters with another peer.

    Args:
        store: a `Store` whose run was created.
        spec: the `RunSpec`, to make the run again.
        name: the peer's.
        num_examples: of "train".
        log: called with a sentence when the store goes and when it comes back.
    """

    def __init__(self, store, spec, name, num_examples, log=lambda message: None):
        super().__init__(store, spec, log)
        self._name = name
        # Of each example the last norm, and whether it is yet to be pushed.
        self._norms = np.full(num_examples, np.nan, np.float32)
        self._unpushed = np.zeros(num_examples, bool)
        self._offer = None  # (step, parameters or None): the newest
        self._values = self._theirs = None  # what came and was not taken
        self._published = None  # the version in this peer's slot, as this peer left it

    def begin(self, fresh):
        """Finds the run, and starts to work.

        Args:
            fresh: whether this peer begins anew. A run that nobody is alive in, of a training that
                is over, makes way then.

        Returns:
            (another peer's name, its version, its parameters) or None.

        Raises:
            StoreUnavailableError: the store can't be reached; `begin` may be called again.
            RunTakenError: a peer of this name has just been alive, and this one begins anew.
        """
        self._store.create(self._spec)
        if fresh and self._name in self._store.alive(PEER, 3 * HEARTBEAT_SECONDS):
            raise RunTakenError(
                f"A peer of the name {self._name!r} was alive a few seconds ago. Give this one"
                f" another name; if that one has ended, wait for {3 * HEARTBEAT_SECONDS:.0f} s."
            )
        others = self._others()
        if fresh and not others:
            self._store.delete()
            self._store.create(self._spec)
        self._published = self._store.head(slot=self._name)
        self._store.heartbeat(PEER, self._name)
        self._values = self._store.pull("train").values
        found = self._fetch(others, 0) if fresh else None
        self._start()
        return found

    def begin_without(self):
        """Starts to work although the store is away."""
        self._published = None
        self._away_since = clock.now()
        self._start()

    def measured(self, rows, norms):
        """Has the norms (n,) of examples `rows` pushed with the next offer."""
        with self._condition:
            self._norms[rows], self._unpushed[rows] = norms, True

    def offer(self, step, parameters):
        """Has norms exchanged soon, and parameters unless they are None.

        An offer that is still waiting is replaced, but for its parameters if this one has none.
        """
        with self._condition:
            if parameters is None and self._offer is not None:
                parameters = self._offer[1]
            self._offer = (step, parameters)
            self._condition.notify_all()

    def take(self):
        """Returns what has come since the last call.

        Returns:
            (everybody's norms (N,), NaN where unknown, or None; (a peer's name, its version, its
            parameters) or None).

        Raises:
            RunTakenError: another peer has this one's name.
        """
        with self._condition:
            found = self._values, self._theirs
            self._values = self._theirs = None
        self._raise()
        return found

    def close(self):
        """Exchanges what is waiting, unless the store is away, and ends."""
        if self._thread is not None:
            self._stop(lambda: self._offer is None, LAST_SECONDS)
            self._thread = None

    def _work_once(self):
        with self._condition:
            if not self.away:
                self._condition.wait_for(lambda: self._stopping or self._offer, HEARTBEAT_SECONDS)
            offer = self._offer
        self._store.heartbeat(PEER, self._name)
        if offer is None:
            return
        step, parameters = offer
        self._push()
        values = self._store.pull("train").values
        theirs = None
        if parameters is not None:
            theirs = self._fetch(self._others(), step)
            self._publish(step, parameters)
        with self._condition:
            self._values, self._theirs = values, theirs or self._theirs
            if self._offer is offer:
                self._offer = None
            self._condition.notify_all()

    def _push(self):
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

    def _others(self):
        return [n for n in self._store.alive(PEER, ALIVE_SECONDS) if n != self._name]

    def _fetch(self, others, step):
        if not others:
            return None
        other = others[np.random.default_rng([step, len(others)]).integers(len(others))]
        found = self._store.fetch(slot=other)
        return found and (other, found.version, found.values)

    def _publish(self, step, parameters):
        head = self._store.head(slot=self._name)
        if head is not None and self._published is not None and head > self._published:
            raise RunTakenError(
                f"Another peer of the name {self._name!r} trains in this run. Stop it, or give this"
                " one another name."
            )
        # After a kill the checkpoint may be behind what was published.
        version = step if head is None else max(step, head + 1)
        self._store.publish(parameters, version, slot=self._name)
        self._published = version

    def _make_again(self):
        self._store.create(self._spec)
        with self._condition:
            self._unpushed = ~np.isnan(self._norms)
        self._published = None
