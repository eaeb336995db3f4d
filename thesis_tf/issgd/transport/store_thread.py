"""A thread that talks with a store, so that training never waits for it."""

import abc
import threading

from thesis_tf.issgd.stores import RunNotFoundError, StoreUnavailableError
from thesis_tf.issgd.transport import clock

RETRY_SECONDS = 0.5


class StoreThread(abc.ABC):
    """Works with a store until it is stopped; `Link` and `Exchange` say at what.

    While the store is away it tries again and again; a run that was lost is made again.

    Args:
        store: a `Store` whose run was created.
        spec: the `RunSpec`, to make the run again.
        log: called with a sentence when the store goes and when it comes back.
    """

    def __init__(self, store, spec, log=lambda message: None):
        self._store, self._spec, self._log = store, spec, log
        self._condition = threading.Condition()
        self._away_since = self._error = self._thread = None
        self._stopping = False

    @abc.abstractmethod
    def _work_once(self):
        """Waits for something to do, unless the store is away, and does it."""

    @abc.abstractmethod
    def _make_again(self):
        """Makes the run again, which was lost."""

    @property
    def away(self):
        """Whether the store could not be reached when it was last tried."""
        return self._away_since is not None

    def _start(self):
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="issgd-store", daemon=True)
        self._thread.start()

    def _stop(self, is_done, seconds):
        """Ends the thread when there is nothing to do, or the store is away, or it takes long."""
        with self._condition:
            self._condition.wait_for(lambda: self.away or self._error or is_done(), seconds)
            self._stopping = True
            self._condition.notify_all()
        self._thread.join()

    def _raise(self):
        if self._error is not None:
            raise self._error

    def _work(self):
        lost = False
        while not self._stopping:
            try:
                if lost:
                    self._make_again()
                    self._log("The run was lost from the store; it was made again.")
                    lost = False
                self._work_once()
                if self.away:
                    self._log(f"The store is back after {clock.now() - self._away_since:.0f} s.")
                    self._away_since = None
            except StoreUnavailableError as error:
                self._rest(error)
            except RunNotFoundError:
                lost = True
            except Exception as error:  # what can't be mended here is raised in the main thread
                with self._condition:
                    self._error = error
                    self._condition.notify_all()
                return

    def _rest(self, error):
        with self._condition:
            if not self.away:
                self._away_since = clock.now()
                self._log(f"The store is away, training goes on: {error}")
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._stopping, RETRY_SECONDS)
