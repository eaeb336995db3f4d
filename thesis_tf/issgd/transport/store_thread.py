"""A thread that communicates with a store, so that training never waits for it."""

import abc
import threading
from collections.abc import Callable

from thesis_tf.issgd.stores import RunNotFoundError, RunSpec, Store, StoreUnavailableError
from thesis_tf.issgd.transport import clock

RETRY_SECONDS = 0.5


class StoreThread(abc.ABC):
    """Communicates with a store until it is stopped; subclasses define the exchange.

    While the store can't be reached it retries; a run that the store lost is created again.

    Args:
        store: a `Store` whose run was created.
        spec: the `RunSpec`, to create the run again.
        log: called with a sentence when the store can't be reached, and when it can be again.
    """

    def __init__(self, store: Store, spec: RunSpec, *, log: Callable[[str], None]) -> None:
        self._store, self._spec, self._log = store, spec, log
        self._condition = threading.Condition()
        self._away_since: float | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    @abc.abstractmethod
    def _work_once(self) -> None:
        """Waits for work, unless the store can't be reached, and does it."""

    @abc.abstractmethod
    def _make_again(self) -> None:
        """Creates the lost run again."""

    @property
    def away(self) -> bool:
        """Whether the last attempt to reach the store failed."""
        return self._away_since is not None

    def _start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="issgd-store", daemon=True)
        self._thread.start()

    def _stop(self, is_done: Callable[[], bool], seconds: float) -> None:
        """Ends the thread when its work is done, the store can't be reached, or time is up."""
        with self._condition:
            self._condition.wait_for(lambda: self.away or self._error or is_done(), seconds)
            self._stopping = True
            self._condition.notify_all()
        assert self._thread is not None
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        lost = False
        while not self._stopping:
            try:
                if lost:
                    self._make_again()
                    self._log("The store had lost the run; it was created again.")
                    lost = False
                self._work_once()
                if self._away_since is not None:
                    self._log(f"The store is back after {clock.now() - self._away_since:.0f} s.")
                    self._away_since = None
            except StoreUnavailableError as error:
                self._rest(error)
            except RunNotFoundError:
                lost = True
            except Exception as error:  # raised in the main thread
                with self._condition:
                    self._error = error
                    self._condition.notify_all()
                return

    def _rest(self, error: StoreUnavailableError) -> None:
        with self._condition:
            if not self.away:
                self._away_since = clock.now()
                self._log(f"The store can't be reached, training continues: {error}")
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._stopping, RETRY_SECONDS)
