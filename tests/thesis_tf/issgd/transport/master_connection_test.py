import contextlib
import signal

import numpy as np
import pytest

from thesis_tf.issgd.stores import (
    RunMismatchError,
    RunNotFoundError,
    RunSpec,
    RunTakenError,
    open_store,
)
from thesis_tf.issgd.transport.master_connection import CLAIM_SECONDS, MasterConnection

SPEC = RunSpec("model", "data", (("train", 45),), 80, block_size=10)
OTHER = RunSpec("another model", "data", (("train", 45),), 80, block_size=10)


def parameters(number):
    return np.full(SPEC.parameter_bytes, number, np.uint8)


@contextlib.contextmanager
def connected(store, **options):
    store.create(SPEC)
    store.claim_master("me", CLAIM_SECONDS)
    connection = MasterConnection(store, SPEC, "me", **{"log": print} | options)
    try:
        yield connection
    finally:
        connection.close(finished=False)


def pulled(connection, until):
    """Returns the next blocks that arrive."""
    return until(lambda: connection.pull(["train"]))["train"]


def test_publishes_and_pulls(open_memory, until):
    other = open_memory()
    with connected(open_memory()) as connection:
        other.join(SPEC)
        for version in range(50):
            connection.publish(version, parameters(version))
        assert connection.wait(49, 60)
        assert connection.published == other.head() == 49
        assert (other.fetch().values == 49).all()
        other.push("train", 1, np.ones(10), 49, "w", 0.5, 0.25)
        until(lambda: pulled(connection, until).versions[1] == 49)
        assert connection.store_time == pytest.approx(other.time(), abs=60)
        assert not connection.wait(50, 0.01)


def test_what_is_waiting_is_published_at_the_end(open_memory):
    other = open_memory()
    with connected(open_memory()) as connection:
        connection.publish(3, parameters(3))
    other.join(SPEC)
    assert other.head() == 3
    assert not other.finished()
    other.claim_master("another", 1)  # the run has no master any more


def test_says_that_the_run_is_over(open_memory):
    store, other = open_memory(), open_memory()
    store.create(SPEC)
    MasterConnection(store, SPEC, "me", log=print).close(finished=True)
    other.join(SPEC)
    assert other.finished()


def test_a_run_that_was_lost_is_made_again(open_memory, until):
    other, said = open_memory(), []
    with connected(open_memory(), log=said.append) as connection:
        connection.publish(5, parameters(5))
        assert connection.wait(5, 60)
        other.delete()
        with pytest.raises(RunNotFoundError):
            other.join()
        blocks = pulled(connection, until)
        assert (blocks.versions == -1).all()
        other.join(SPEC)
        until(lambda: other.head() == 5)
        with pytest.raises(RunTakenError):
            other.claim_master("another", 1)
    assert said == ["The store had lost the run; it was created again."]


def test_a_run_that_became_another_is_an_error(open_memory, until):
    other = open_memory()
    with connected(open_memory()) as connection:
        other.delete()
        other.create(OTHER)
        with pytest.raises(RunMismatchError, match="model: another network or loss"):
            until(lambda: connection.pull(["train"]) and False)
        with pytest.raises(RunMismatchError):
            connection.publish(1, parameters(1))
        with pytest.raises(RunMismatchError):
            connection.wait(1, 60)


def test_a_run_that_another_master_made_again_is_an_error(open_memory, until):
    other = open_memory()
    with connected(open_memory()) as connection:
        other.delete()
        # This kind of store has a lock, so both calls can be one step.
        with other._backend._state(change=True):
            other.create(SPEC)
            other.claim_master("another", 60)
        with pytest.raises(RunTakenError, match="has had another master"):
            until(lambda: connection.pull(["train"]) and False)


@pytest.mark.parametrize("empty", [True, False], ids=["restarted", "stopped"])
def test_a_server_that_is_away(redis_server, until, empty):
    said, other = [], open_store(redis_server.url)
    with connected(
        open_store(f"{redis_server.url}?socket_timeout=0.3"), log=said.append
    ) as connection:
        connection.publish(1, parameters(1))
        assert connection.wait(1, 60)
        if empty:
            redis_server.stop()
        else:
            redis_server.process.send_signal(signal.SIGSTOP)
        connection.publish(2, parameters(2))
        connection.pull(["train"])
        until(lambda: connection.away)
        connection.publish(3, parameters(3))
        assert not connection.wait(3, 0.1)
        if empty:
            redis_server.start()
        else:
            redis_server.process.send_signal(signal.SIGCONT)
        assert connection.wait(3, 60)
        until(lambda: not connection.away)
        other.join(SPEC)
        assert (other.fetch().values == 3).all()
        assert (pulled(connection, until).versions == -1).all()
    assert "The store can't be reached, training continues: " in said[0]
    assert said[-1].startswith("The store is back after ")
    assert len(said) == (3 if empty else 2)


def test_a_server_that_is_away_at_the_end(redis_server, until):
    said = []
    store = open_store(redis_server.url)
    store.create(SPEC)
    connection = MasterConnection(store, SPEC, "me", log=said.append)
    redis_server.stop()
    connection.publish(1, parameters(1))
    until(lambda: connection.away)
    connection.close(finished=True)
    assert said[-1].startswith("The store could not be told that the run is over")
