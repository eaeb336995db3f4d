import contextlib
import signal

import numpy as np
import pytest

from thesis_tf.issgd.stores import RunSpec, RunTakenError, open_store
from thesis_tf.issgd.transport.peer_connection import PeerConnection

SPEC = RunSpec("model", "data", (("train", 45),), 80, block_size=10)


def parameters(number):
    return np.full(SPEC.parameter_bytes, number, np.uint8)


@contextlib.contextmanager
def connected(store, name="a", fresh=True, **options):
    store.create(SPEC)
    connection = PeerConnection(store, SPEC, name, 45, **{"log": print} | options)
    connection.begin(fresh=fresh)
    try:
        yield connection
    finally:
        connection.close()


def pulled(connection, which, until):
    """Returns the next norms (0) or the next parameters of another peer (1)."""
    return until(lambda: [v] if (v := connection.pull()[which]) is not None else None)[0]


def test_norms_and_parameters_go_both_ways(open_memory, until):
    with connected(open_memory()) as a, connected(open_memory(), "b") as b:
        for connection in (a, b):
            assert np.isnan(connection.pull()[0]).all()  # the initial norms
        a.add_norms(np.array([3, 44]), np.array([0.5, 2.0], np.float32))
        a.publish(8, parameters(1))
        assert pulled(a, 0, until)[[3, 44]].tolist() == [0.5, 2.0]
        b.publish(8, parameters(2))
        other = pulled(b, 1, until)
        assert (other.name, other.version) == ("a", 8)
        assert (other.values == 1).all()
        # Norms are exchanged even without parameters.
        b.add_norms(np.array([7]), np.array([1.0], np.float32))
        b.publish(16, None)
        norms = until(lambda: (n := b.pull()[0]) is not None and not np.isnan(n[7]) and [n])[0]
        assert np.flatnonzero(~np.isnan(norms)).tolist() == [3, 7, 44]
        assert open_joined(open_memory).head(slot="b") == 8


def open_joined(open_memory):
    store = open_memory()
    store.join()
    return store


def test_what_is_waiting_is_exchanged_at_the_end(open_memory):
    with connected(open_memory()) as connection:
        connection.add_norms(np.arange(45), np.ones(45, np.float32))
        connection.publish(1, parameters(1))
        connection.publish(2, None)  # replaces it, except for the parameters
    store = open_joined(open_memory)
    assert (store.pull("train").values == 1).all()
    assert (store.fetch(slot="a").values == 1).all()


def test_a_late_one_begins_with_anothers_parameters_and_norms(open_memory):
    with connected(open_memory()) as a:
        a.add_norms(np.array([3]), np.array([0.5], np.float32))
        a.publish(5, parameters(1))
    store = open_memory()
    store.create(SPEC)
    late = PeerConnection(store, SPEC, "b", 45, log=print)
    other = late.begin(fresh=True)
    assert (other.name, other.version) == ("a", 5)
    assert (other.values == 1).all()
    assert late.pull()[0][3] == 0.5
    late.close()
    assert late.begin(fresh=False) is None  # it has parameters already
    late.close()


@pytest.mark.slow
def test_a_server_that_hangs_keeps_nobody_waiting(redis_server, until):
    said = []
    with connected(open_store(redis_server.url), log=said.append) as connection:
        redis_server.process.send_signal(signal.SIGSTOP)
        connection.add_norms(np.array([3]), np.array([0.5], np.float32))
        for step in range(1000):
            connection.publish(step, parameters(1))
            connection.pull()
        until(lambda: said)
        assert "training continues" in said[0]
        redis_server.process.send_signal(signal.SIGCONT)
        until(lambda: len(said) > 1)
        assert "The store is back" in said[1]
        # The store also has the norms of the meantime.
        until(lambda: (n := connection.pull()[0]) is not None and n[3] == 0.5)
    store = open_store(redis_server.url)
    store.join()
    assert store.head(slot="a") == 999


def test_one_that_begins_anew_under_a_name_that_is_pulled(open_memory):
    with connected(open_memory()) as connection:
        connection.publish(5, parameters(1))
        store = open_memory()
        store.create(SPEC)
        with pytest.raises(RunTakenError, match="'a' was alive a few seconds ago"):
            PeerConnection(store, SPEC, "a", 45, log=print).begin(fresh=True)
        # After a kill, its folder has a checkpoint, and it may use its name again.
        again = PeerConnection(store, SPEC, "a", 45, log=print)
        again.begin(fresh=False)
        again.close()
    assert (open_joined(open_memory).fetch(slot="a").values == 1).all()


def test_another_of_its_name(open_memory, until):
    with connected(open_memory()) as connection:
        connection.publish(5, parameters(1))
        pulled(connection, 0, until)
        until(lambda: open_joined(open_memory).head(slot="a") == 5)
        open_joined(open_memory).publish(parameters(2), 9, slot="a")

        def is_refused():
            connection.publish(6, parameters(1))
            with contextlib.suppress(RunTakenError):
                connection.pull()
                return False
            return True

        until(is_refused)
        with pytest.raises(RunTakenError, match="choose another name"):
            connection.pull()
