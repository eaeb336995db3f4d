"""Errors of a Redis server, or of another server at its address."""

import os
import signal
import socket
import sys
import threading
import time

import numpy as np
import pytest
import redis

from thesis_tf.issgd.stores import (
    RunNotFoundError,
    RunSpec,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    open_store,
)
from thesis_tf.issgd.stores.backends.redis import client

SPEC = RunSpec("model", "data", (("train", 45),), 3_000_000, block_size=10)
PASSWORD = "s3cret"


@pytest.fixture
def opened():
    """Returns a function that opens a store, which is closed at the end."""
    stores = []

    def start(url):
        stores.append(open_store(url))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


def opened_again(opened, url):
    store = opened(url)
    store.join(SPEC)
    return store


def use(store):
    store.push("train", 0, np.ones(10), 1, "w", 0.0, 0.0)
    store.publish(bytes(SPEC.parameter_bytes), 1)
    assert store.pull("train").values[0] == 1
    assert store.fetch().version == 1


def test_a_server_that_comes_back_empty(redis_server, opened):
    store = opened(redis_server.url)
    store.create(SPEC)
    use(store)

    redis_server.restart()

    with pytest.raises(RunNotFoundError, match="restarted empty"):
        store.pull("train")
    with pytest.raises(RunNotFoundError):
        store.push("train", 0, np.ones(10), 1, "w", 0.0, 0.0)
    assert redis_server.cli("DBSIZE") == "0"
    store.create(SPEC)
    assert np.isnan(store.pull("train").values).all()
    use(store)


def test_a_server_that_is_away(redis_server, opened):
    store = opened(redis_server.url)
    store.create(SPEC)
    redis_server.stop()

    for _ in range(2):
        with pytest.raises(
            StoreUnavailableError, match=rf":{redis_server.port}/0 can't be reached"
        ):
            store.pull("train")
    with pytest.raises(StoreUnavailableError, match="Is the server up"):
        opened(redis_server.url).join()

    redis_server.start()
    store.create(SPEC)
    use(store)


def test_a_server_that_hangs(redis_server, opened):
    store = opened(f"{redis_server.url}?socket_timeout=0.3")
    store.create(SPEC)
    redis_server.process.send_signal(signal.SIGSTOP)

    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"timed out|Timeout"):
            store.pull("train")
    assert time.monotonic() - begun < 3

    redis_server.process.send_signal(signal.SIGCONT)
    use(store)


def test_a_server_that_closes_idle_connections(redis_server, opened):
    store = opened(redis_server.url)
    store.create(SPEC)
    redis_server.cli("CLIENT", "KILL", "TYPE", "normal")
    use(store)


def test_a_full_server(redis_server, opened):
    redis_server.cli("CONFIG", "SET", "maxmemory", 3_500_000)
    store = opened(redis_server.url)
    store.create(SPEC)

    with pytest.raises(StoreUnavailableError, match="OOM"):
        store.publish(bytes(SPEC.parameter_bytes), 1)
    redis_server.cli("CONFIG", "SET", "maxmemory", 0)
    use(store)


def test_wrong_password(start_redis, opened):
    server = start_redis("--requirepass", PASSWORD)
    place = f"127.0.0.1:{server.port}/0"

    for user in ("", ":wr0ng@", f"nobody:{PASSWORD}@"):
        with pytest.raises(StoreRefusedError, match="rejects this user") as raised:
            opened(f"redis://{user}{place}").create(SPEC)
        assert "wr0ng" not in str(raised.value)
        assert PASSWORD not in str(raised.value)
        assert str(server.port) in str(raised.value)
    store = opened(f"redis://:{PASSWORD}@{place}")
    assert PASSWORD not in repr(store)
    store.create(SPEC)
    use(store)


def test_a_user_without_permission(start_redis, opened):
    server = start_redis(
        *("--user", "reader", "on", ">pw", "~*", "+@read", "+@connection"),
        *("--user", "other", "on", ">pw", "~other:*", "+@all"),
        *("--user", "mine", "on", ">pw", "~{default}*"),
        *("+@read", "+@write", "+@connection", "+eval", "+evalsha", "+time"),
    )
    place = f"pw@127.0.0.1:{server.port}/0"

    for user in ("reader", "other"):
        with pytest.raises(StoreRefusedError, match="NOPERM"):
            opened(f"redis://{user}:{place}").create(SPEC)
    store = opened(f"redis://mine:{place}")
    store.create(SPEC)
    use(store)
    store.delete()


def answering(reply):
    """Starts a server that always gives the same answer; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(reply)
            time.sleep(0.2)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_a_server_of_something_else(opened):
    port = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(StoreRefusedError, match="is not a Redis server"):
        opened(f"redis://127.0.0.1:{port}").create(SPEC)


def test_a_server_with_as_many_clients_as_it_may_have():
    port = answering(b"-ERR max number of clients reached\r\n")
    server = client.Client(f"redis://127.0.0.1:{port}", "the store")
    said = "can't answer now: .*max number of clients reached. Wait until it is ready"
    with pytest.raises(StoreUnavailableError, match=said):
        server.call(("GET", "x"))

    def fetch(connection):
        connection.ask("x")
        connection.receive_into(memoryview(bytearray(1)))

    with pytest.raises(StoreUnavailableError, match=said):
        server.bulk(fetch)


def test_an_error_that_quotes_the_reply_of_a_full_server():
    server = client.Client("redis://127.0.0.1", "the store")
    text = "ERR unknown command 'max number of clients reached'"
    found = server.translate(redis.ResponseError(text))
    assert type(found) is StoreError
    assert str(found) == f"the store answered: {text}."


def test_keys_of_something_else(redis_server, opened):
    store = opened(redis_server.url)
    redis_server.cli("SET", "{default}", "something else")
    with pytest.raises(StoreError, match="holds something else"):
        store.create(SPEC)
    redis_server.cli("DEL", "{default}")
    redis_server.cli("LPUSH", "{default}", "x")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.create(SPEC)


def test_a_cluster_without_its_scheme(shared_cluster, opened):
    # One node has all slots, so it doesn't redirect.
    store = opened(f"redis://127.0.0.1:{shared_cluster.port}")
    store.create(SPEC)
    use(store)
    store.delete()


@pytest.fixture
def cluster(start_redis):
    """Two nodes, each with half of the slots."""
    nodes = [start_redis("--cluster-enabled", "yes") for _ in range(2)]
    nodes[0].cli("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    nodes[1].cli("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    bus = nodes[1].cli("CONFIG", "GET", "cluster-port").split()[1]
    nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, bus)
    until = time.monotonic() + 300
    while any("cluster_state:ok" not in node.cli("CLUSTER", "INFO") for node in nodes):
        assert time.monotonic() < until
        time.sleep(0.05)
    return nodes


def test_a_cluster_of_two_nodes(cluster, opened):
    for node in cluster:
        store = opened(f"redis+cluster://127.0.0.1:{node.port}")
        store.create(SPEC)
        use(store)
        use(store)
        store.delete()
    said = []
    for node in cluster:
        try:
            opened(f"redis://127.0.0.1:{node.port}").create(SPEC)
        except StoreRefusedError as error:
            said.append(str(error))
    assert len(said) == 1
    assert "is a node of a cluster. Write the URL with redis+cluster://" in said[0]


def test_tls(tls_server, certificates, opened):
    place = f"rediss://127.0.0.1:{tls_server.port}/0?ssl_ca_certs={certificates}"
    mine = f"&ssl_certfile={certificates}/redis.crt&ssl_keyfile={certificates}/redis.key"

    store = opened(f"{place}/ca.crt{mine}")
    store.create(SPEC)
    use(store)

    with pytest.raises(StoreRefusedError, match=r"no TLS connection .*ssl_ca_certs"):
        opened(f"{place}/other.crt{mine}").create(SPEC)
    with pytest.raises((StoreRefusedError, StoreUnavailableError)):
        opened(f"{place}/ca.crt").create(SPEC)
    name = f"rediss://localhost:{tls_server.port}/0?ssl_ca_certs={certificates}/ca.crt"
    with pytest.raises(StoreRefusedError, match="no TLS connection"):
        opened(f"{name}{mine}").create(SPEC)
    use(opened_again(opened, f"{name}&ssl_cert_reqs=none{mine}"))


def test_tls_where_there_is_none(redis_server, opened):
    # For this server, the first message of TLS is a command that hasn't ended yet.
    url = f"rediss://127.0.0.1:{redis_server.port}/0?socket_timeout=0.2&socket_connect_timeout=0.2"
    with pytest.raises(StoreUnavailableError, match="Is this the server's TLS port"):
        opened(url).create(SPEC)


def test_a_forked_child_has_its_own_connections(redis_server, opened):
    store = opened(redis_server.url)
    store.create(SPEC)
    child = os.fork()
    if child == 0:
        try:
            store.push("train", 0, np.ones(10), 1, "w", 0.0, 0.0)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.block_version("train", 0) == 1


def test_without_hiredis(redis_server, opened, monkeypatch):
    """Without hiredis, redis-py counts the items of a memoryview, not its bytes."""
    monkeypatch.setattr("redis.connection.HIREDIS_AVAILABLE", False)
    store = opened(redis_server.url)
    store.create(SPEC)
    use(store)
    store.push_examples("train", np.array([3, 44]), np.array([5.0, 7.0]))
    np.testing.assert_array_equal(store.pull("train").values[[3, 44]], [5, 7])


def test_without_redis_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'thesis_tf\[redis\]'"):
        open_store("redis://127.0.0.1")
    open_store("memory://").close()
