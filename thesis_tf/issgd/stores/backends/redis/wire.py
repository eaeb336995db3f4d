"""The Redis protocol (RESP2) on a socket, with bulk replies received where they are wanted.

redis-py connects: addresses, TLS, passwords and time-outs are its. But its parser collects each
reply from pieces and copies it, so that 76 MB take 4x as long as on a bare socket, and a script
call of 8 KB takes 2x as long. What a store needs of the protocol is little.
"""

# What is received in advance of a reply's first line is copied; the rest of a string is not.
_READ = 1 << 12
# Arguments from this size on are sent from where they are.
_LARGE = 1 << 16
# Bytes a receive: the more often the kernel's buffer is emptied, the less the server waits.
_RECEIVE = 1 << 16


class ReplyError(Exception):
    """The server's answer is an error; `code` is its first word."""

    def __init__(self, text):
        super().__init__(text)
        self.code = text.partition(" ")[0]


class ProtocolError(Exception):
    """What came is not the Redis protocol."""


class Wire:
    """One connection. It must be closed after any exception but `ReplyError` of a last reply.

    Args:
        connection: a connected `redis.connection.Connection`, which is this object's from now on.
    """

    def __init__(self, connection):
        self._connection = connection
        # redis-py keeps its socket to itself; before the first command nothing is in its buffers.
        self._socket = connection._sock
        self._buffer = memoryview(bytearray(_READ))
        self._start = self._end = 0

    def close(self):
        """Closes the connection."""
        self._connection.disconnect()

    def send(self, *commands):
        """Sends commands, each a sequence of bytes, str, int, float or buffers."""
        parts = []
        for command in commands:
            parts.append(b"*%d\r\n" % len(command))
            for argument in command:
                if isinstance(argument, (str, int, float)):
                    argument = str(argument).encode()
                size = memoryview(argument).nbytes
                parts.append(b"$%d\r\n" % size)
                if size >= _LARGE:
                    # Each `sendall` has the time-out for itself, so a large one gets its own.
                    self._socket.sendall(b"".join(parts))
                    self._socket.sendall(argument)
                    parts = [b"\r\n"]
                else:
                    parts += [argument, b"\r\n"]
        self._socket.sendall(b"".join(parts))

    def reply(self):
        """Returns the next reply: an int, bytes, None, or a list of those; raises its error."""
        kind, rest = self._head()
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            data = bytearray(size)
            self._bulk(memoryview(data))
            return bytes(data)
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))] if int(rest) >= 0 else None
        return int(rest) if kind == b":" else rest

    def reply_into(self, view):
        """Receives a bulk reply into a view; returns whether there was one of that size."""
        kind, rest = self._head()
        if kind != b"$":
            raise ProtocolError(f"expected a string, received {kind + rest!r}")
        size = int(rest)
        if size != len(view):
            if size >= 0:
                self._bulk(memoryview(bytearray(size)))
            return False
        self._bulk(view)
        return True

    def _head(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise ReplyError(rest.decode(errors="replace"))
        if kind not in (b"+", b":", b"$", b"*"):
            raise ProtocolError(f"received {line[:40]!r}")
        if kind != b"+" and not rest.removeprefix(b"-").isdigit():
            raise ProtocolError(f"received {line[:40]!r}")
        return kind, rest

    def _line(self):
        line = b""
        while not line.endswith(b"\r\n"):
            if self._start == self._end:
                self._fill()
            data = bytes(self._buffer[self._start : min(self._end, self._start + 1024)])
            if line.endswith(b"\r") and data.startswith(b"\n"):
                taken = 1
            else:
                taken = data.find(b"\r\n") + 2
                taken = taken if taken > 1 else len(data)
            line += data[:taken]
            self._start += taken
            if len(line) > _READ:
                raise ProtocolError(f"received {line[:40]!r}...")
        return line[:-2]

    def _bulk(self, view):
        """Fills a view with the bulk that comes next, and takes the line's end after it."""
        kept = min(self._end - self._start, len(view))
        view[:kept] = self._buffer[self._start : self._start + kept]
        self._start += kept
        while kept < len(view):
            received = self._socket.recv_into(view[kept : kept + _RECEIVE])
            if not received:
                raise ConnectionResetError("the server closed the connection")
            kept += received
        if self._line():
            raise ProtocolError("a string is longer than it says")

    def _fill(self):
        self._start, self._end = 0, self._socket.recv_into(self._buffer)
        if not self._end:
            raise ConnectionResetError("the server closed the connection")
