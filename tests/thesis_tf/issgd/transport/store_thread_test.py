import contextlib

import pytest

from thesis_tf.issgd.stores import RunNotFoundError, StoreUnavailableError
from thesis_tf.issgd.transport import store_thread


class Scripted(store_thread.StoreThread):
    """Raises the errors of a list, one per turn, and then counts its turns."""

    def __init__(self, errors, **options):
        super().__init__(None, None, **options)
        self.errors, self.turns, self.made = list(errors), 0, 0
        self._start()

    def _work_once(self):
        if self.errors:
            raise self.errors.pop(0)
        self.turns += 1
        with self._condition:
            self._condition.notify_all()
            self._condition.wait(0.01)

    def _make_again(self):
        self.made += 1


@contextlib.contextmanager
def running(errors, monkeypatch):
    monkeypatch.setattr(store_thread, "RETRY_SECONDS", 0.001)
    said = []
    thread = Scripted(errors, log=said.append)
    yield thread, said
    thread._stop(lambda: True, 10)
    assert not thread._thread.is_alive()


def test_it_retries_while_the_store_is_away_and_says_so_once(monkeypatch, until):
    errors = [StoreUnavailableError("gone")] * 3
    with running(errors, monkeypatch) as (thread, said):
        until(lambda: thread.turns > 2)
        assert not thread.away
    assert said[0] == "The store can't be reached, training continues: gone"
    assert said[1].startswith("The store is back after")
    assert len(said) == 2


def test_a_lost_run_is_created_again(monkeypatch, until):
    with running([RunNotFoundError("lost")], monkeypatch) as (thread, said):
        until(lambda: thread.turns)
        assert thread.made == 1
    assert said == ["The store had lost the run; it was created again."]


def test_other_errors_are_raised_in_the_main_thread(monkeypatch, until):
    with running([KeyError("broken")], monkeypatch) as (thread, _):
        until(lambda: thread._error)
        with pytest.raises(KeyError, match="broken"):
            thread._raise()
        assert thread.turns == 0
