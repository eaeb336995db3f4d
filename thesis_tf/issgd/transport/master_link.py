"""A master's connection to its store, in a thread, so that training never waits for it."""

from thesis_tf.issgd.stores import StoreError
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.store_thread import StoreThread

CLAIM_SECONDS = 15.0
LAST_SECONDS = 60.0  # for what is waiting at the end


class Link(StoreThread):
    """Publishes the newest parameters, pulls weights, and holds the master's claim on the run.

    After the store was away, or the run was lost, the newest parameters are published again.

    Args:
        store: a `Store` whose run was created and claimed.
        spec: the `RunSpec`, to make the run again.
        token: the master's, as it was claimed.
        log: called with a sentence when the store goes and when it comes back.

    Attributes:
        store_time: the store's clock when weights were last pulled, None before.
    """

    def __init__(self, store, spec, token, log=lambda message: None):
        super().__init__(store, spec, log)
        self._token = token
        self._newest = None  # (version, values): what is to be in the store
        self._published = -1
        self._blocks = {}
        self._wanted = set()
        self.store_time = None
        self._claimed = clock.now()
        self._start()

    @property
    def published(self):
        """The newest version that is in the store."""
        return self._published

    def publish(self, version, values):
        """Has parameters published soon; those of an older version may never be."""
        with self._condition:
            self._newest = (version, values)
            self._condition.notify_all()
        self._raise()

    def pull(self, splits):
        """Has weights pulled soon; returns {split: `Blocks`} that have come since the last call."""
        with self._condition:
            blocks, self._blocks = self._blocks, {}
            self._wanted |= set(splits)
            self._condition.notify_all()
        self._raise()
        return blocks

    def wait(self, version, seconds):
        """Waits until a version is in the store, for some seconds; returns whether it is."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._published >= version or self._error or self._stopping, seconds
            )
        self._raise()
        return self._published >= version

    def close(self, finished):
        """Publishes what is waiting, says that the run is over if it is, and ends the claim."""
        self._stop(lambda: not self._unpublished(), LAST_SECONDS)
        if self._error is None:
            try:
                if finished:
                    self._store.finish()
                self._store.release_master(self._token)
            except StoreError as error:
                self._log(f"The store could not be told that the run is over: {error}")

    def _unpublished(self):
        return self._newest is not None and self._newest[0] > self._published

    def _due(self):
        return self._unpublished() or self._wanted or self._claim_is_due()

    def _claim_is_due(self):
        return clock.now() - self._claimed > CLAIM_SECONDS / 3

    def _work_once(self):
        with self._condition:
            if not self.away:
                self._condition.wait_for(lambda: self._stopping or self._due(), CLAIM_SECONDS / 4)
            newest, wanted = self._newest, set(self._wanted)
        if self._claim_is_due() or self.away:
            self._store.claim_master(self._token, CLAIM_SECONDS)
            self._claimed = clock.now()
        if newest is not None and newest[0] > self._published:
            self._store.publish(newest[1], newest[0])
            with self._condition:
                self._published = newest[0]
                self._condition.notify_all()
        for split in wanted:
            blocks = self._store.pull(split)
            self.store_time = blocks.now
            with self._condition:
                self._blocks[split] = blocks
                self._wanted.discard(split)

    def _make_again(self):
        self._store.create(self._spec)
        self._store.claim_master(self._token, CLAIM_SECONDS)
        self._claimed = clock.now()
        self._published = -1
