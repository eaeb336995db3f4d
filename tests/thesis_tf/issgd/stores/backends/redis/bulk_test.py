import socket
import threading

import pytest
import redis

from thesis_tf.issgd.stores.backends.redis.bulk import BulkConnection


class Server:
    """Accepts one connection; `say` sends it bytes, in pieces of a given size."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.settings = {"host": "127.0.0.1", "port": self._listener.getsockname()[1]}

    def connect(self, **settings):
        ours = BulkConnection({**self.settings, "socket_timeout": 5.0, **settings}, tls=False)
        self.other, _ = self._listener.accept()
        return ours

    def say(self, data, piece=None):
        piece = piece or max(1, len(data))
        for at in range(0, len(data), piece):
            self.other.sendall(data[at : at + piece])

    def close(self):
        self.other.close()
        self._listener.close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def connection(server):
    connection = server.connect()
    yield connection
    connection.close()


def received(connection, size):
    view = memoryview(bytearray(size))
    return bytes(view) if connection.receive_into(view) else None


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_strings(server, connection, piece):
    values = [b"", b"a\r\nb\n", b"\r" * 9000, bytes(range(256)) * 300]
    data = b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in values)
    sender = threading.Thread(target=server.say, args=(data, piece))
    sender.start()
    assert [received(connection, len(value)) for value in values] == values
    sender.join()


def test_strings_of_another_size_are_skipped(server, connection):
    server.say(b"$-1\r\n$3\r\nabc\r\n$5000\r\n%b\r\n" % (b"b" * 5000))
    assert received(connection, 5000) is None
    assert received(connection, 5000) is None
    assert received(connection, 5000) == b"b" * 5000


def test_errors(server, connection):
    server.say(b"-MOVED 3999 127.0.0.1:6381\r\n")
    with pytest.raises(redis.ResponseError, match="MOVED 3999"):
        received(connection, 1)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400\r\n", b"$x\r\n", b"\r\n", b"$1\r\nabc\r\n", b":1\r\n", b"a" * 5000]
)
def test_what_is_not_the_protocol(server, connection, data):
    server.say(data)
    with pytest.raises(redis.InvalidResponse):
        received(connection, 1)


def test_a_connection_that_ends(server, connection):
    server.say(b"$10\r\nabc")
    server.other.close()
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        received(connection, 10)


def test_a_server_that_says_nothing(server):
    connection = server.connect(socket_timeout=0.05)
    with pytest.raises(TimeoutError):
        received(connection, 1)
    connection.close()


def test_what_is_asked_for(server, connection):
    connection.ask("a", "bc")
    expected = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$2\r\nbc\r\n"
    assert server.other.recv(1000) == expected


def test_user_password_name_and_database(redis_server):
    redis_server.cli("ACL", "SETUSER", "me", "on", ">s3cret", "~*", "+@all")
    client = redis.Redis(port=redis_server.port, db=3)
    client.set("key", b"value")
    settings = {
        "host": "127.0.0.1",
        "port": redis_server.port,
        "username": "me",
        "password": "s3cret",
        "client_name": "reader",
        "db": 3,
    }
    connection = BulkConnection(settings, tls=False)
    connection.ask("key")
    assert received(connection, 5) == b"value"
    assert "reader" in [one["name"] for one in client.client_list()]
    connection.close()

    with pytest.raises(redis.RedisError, match="WRONGPASS"):
        BulkConnection({**settings, "password": "wrong"}, tls=False)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        BulkConnection({"host": "127.0.0.1", "port": port}, tls=False)
