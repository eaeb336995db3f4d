"""A master's connection to its store, in a thread, so that training never waits for it."""

from collections.abc import Callable, Iterable

import numpy as np

from thesis_tf.issgd.stores import Blocks, RunSpec, Store, StoreError
from thesis_tf.issgd.transport import clock
from thesis_tf.issgd.transport.store_thread import StoreThread

CLAIM_SECONDS = 15.0
LAST_SECONDS = 60.0  # to publish what is waiting at the end


class MasterConnection(StoreThread):
    """Publishes the newest parameters, pulls blocks, and renews the master's claim on the run.

    When the store can be reached again, or lost the run, the newest parameters are published again.

    Args:
        store: a `Store` whose run was created and claimed.
        spec: the `RunSpec`, to create the run again.
        token: the token by which the master claimed the run.
        log: called with a sentence when the store can't be reached, and when it can be again.

    Attributes:
        store_time: the store's clock when blocks were last pulled, None before.
    """

    def __init__(
        self, store: Store, spec: RunSpec, token: str, *, log: Callable[[str], None]
    ) -> None:
        super().__init__(store, spec, log=log)
        self._token = token
        self._newest: tuple[int, np.ndarray] | None = None  # (version, values) to be published
        self._published = -1
        self._blocks: dict[str, Blocks] = {}
        self._wanted: set[str] = set()
        self.store_time: float | None = None
        self._claimed = clock.now()
        self._start()

    @property
    def published(self) -> int:
        """The newest version that is in the store."""
        return self._published

    def publish(self, version: int, values: np.ndarray) -> None:
        """Schedules parameters to be published; an older version may be skipped."""
        with self._condition:
            self._newest = (version, values)
            self._condition.notify_all()
        self._raise()

    def pull(self, splits: Iterable[str]) -> dict[str, Blocks]:
        """Schedules a pull of splits; returns {split: `Blocks`} pulled since the last call."""
        with self._condition:
            blocks, self._blocks = self._blocks, {}
            self._wanted |= set(splits)
            self._condition.notify_all()
        self._raise()
        return blocks

    def wait(self, version: int, seconds: float) -> bool:
        """Waits until a version is in the store, at most some seconds; returns whether it is."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._published >= version or bool(self._error) or self._stopping, seconds
            )
        self._raise()
        return self._published >= version

    def close(self, finished: bool) -> None:
        """Publishes what is waiting, marks the run as finished if it is, and ends the claim."""
        self._stop(lambda: not self._unpublished(), LAST_SECONDS)
        if self._error is None:
            try:
                if finished:
                    self._store.finish()
                self._store.release_master(self._token)
            except StoreError as error:
                self._log(f"The store could not be told that the run is over: {error}")

    def _unpublished(self) -> bool:
        return self._newest is not None and self._newest[0] > self._published

    def _due(self) -> bool:
        return self._unpublished() or bool(self._wanted) or self._claim_is_due()

    def _claim_is_due(self) -> bool:
        return clock.now() - self._claimed > CLAIM_SECONDS / 3

    def _work_once(self) -> None:
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

    def _make_again(self) -> None:
        self._store.create(self._spec)
        self._store.claim_master(self._token, CLAIM_SECONDS)
        self._claimed = clock.now()
        self._published = -1
