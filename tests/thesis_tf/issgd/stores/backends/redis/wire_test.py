import socket
import types

import pytest

from thesis_tf.issgd.stores.backends.redis.wire import ProtocolError, ReplyError, Wire


@pytest.fixture
def talk():
    """A function from bytes to a `Wire` that receives them, in pieces of some size."""
    ours, theirs = socket.socketpair()
    wire = Wire(types.SimpleNamespace(_sock=ours, disconnect=ours.close))

    def say(data=b"", piece=None):
        piece = piece or max(1, len(data))
        for at in range(0, len(data), piece):
            theirs.sendall(data[at : at + piece])
        return wire

    say.other = theirs
    yield say
    wire.close()
    theirs.close()


REPLIES = {
    b"+OK\r\n": b"OK",
    b":-12\r\n": -12,
    b"$-1\r\n": None,
    b"*-1\r\n": None,
    b"$0\r\n\r\n": b"",
    b"$5\r\na\r\nb\n\r\n": b"a\r\nb\n",
    b"*3\r\n$1\r\na\r\n*1\r\n:2\r\n$-1\r\n": [b"a", [2], None],
    b"$9000\r\n" + b"\r" * 9000 + b"\r\n": b"\r" * 9000,
}


@pytest.mark.parametrize("data", REPLIES, ids=lambda data: str(data[:9]))
def test_replies(talk, data):
    wire = talk(data * 3)
    assert [wire.reply() for _ in range(3)] == [REPLIES[data]] * 3


def test_replies_in_small_pieces(talk):
    import threading

    data = b"".join(REPLIES) * 3
    sender = threading.Thread(target=talk, args=(data, 1))
    sender.start()
    assert [talk().reply() for _ in range(3 * len(REPLIES))] == [*REPLIES.values()] * 3
    sender.join()


def test_a_reply_into_a_view(talk):
    view = memoryview(bytearray(5000))
    wire = talk(b"$5000\r\n%b\r\n$-1\r\n$3\r\nabc\r\n$5000\r\n%b\r\n" % (b"a" * 5000, b"b" * 5000))

    assert wire.reply_into(view)
    assert bytes(view) == b"a" * 5000
    assert not wire.reply_into(view)
    assert not wire.reply_into(view)
    assert wire.reply_into(view)
    assert bytes(view) == b"b" * 5000


def test_errors(talk):
    wire = talk(b"-NOPERM this user\r\n:1\r\n")
    with pytest.raises(ReplyError, match="NOPERM this user") as raised:
        wire.reply()
    assert raised.value.code == "NOPERM"
    assert wire.reply() == 1


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400\r\n", b"$x\r\n", b"\r\n", b"$1\r\nabc\r\n", b"%1\r\n"]
)
def test_what_is_not_the_protocol(talk, data):
    with pytest.raises(ProtocolError):
        talk(data).reply()


def test_a_number_is_no_string(talk):
    with pytest.raises(ProtocolError, match="expected a string, received b':1'"):
        talk(b":1\r\n").reply_into(memoryview(b""))


def test_a_connection_that_ends(talk):
    wire = talk(b"$10\r\nabc")
    talk.other.close()
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        wire.reply()


def test_commands(talk):
    large = bytes(range(256)) * 256
    talk().send(("SET", b"k", 7, 0.5), ("X", memoryview(large), large))

    expected = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n7\r\n$3\r\n0.5\r\n*3\r\n$1\r\nX\r\n"
    expected += 2 * (b"$65536\r\n" + large + b"\r\n")
    received = b""
    while len(received) < len(expected):
        received += talk.other.recv(1 << 20)
    assert received == expected
