"""Connections to a Redis server or cluster, and its errors as those of a store."""

import hashlib
import os
import pathlib
import ssl
import threading
import urllib.parse

from thesis_tf._core import checks
from thesis_tf.issgd.stores import errors
from thesis_tf.issgd.stores.backends.redis.wire import ProtocolError, ReplyError, Wire

TIMEOUT = 5.0  # seconds without a byte
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
OPTIONS = (
    *_FILES,
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_keyfile_password",
    "socket_timeout",
    "socket_connect_timeout",
    "client_name",
)
# What passes: a server that is starting, failing over, resharding, or full.
_LATER = (
    "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "ASK", "READONLY", "OOM",
    "MISCONF", "NOREPLICAS", "UNKILLABLE",
)  # fmt: skip
_NEVER = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED")
LOST = "RUNLOST"
_HOPS = 5


class Script:
    """A Lua script that the server runs atomically."""

    def __init__(self, text):
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Client:
    """A pool of connections to one server, or to the node of a cluster that has the run's keys.

    Args:
        url: a `redis://` or `rediss://` URL.
        shown: the same for messages, without the password.
        cluster: whether the server may send to another node.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: the URL is not one.
    """

    def __init__(self, url, shown, cluster=False):
        try:
            import redis
        except ImportError:
            raise ImportError(
                "A redis:// store needs the package `redis`: pip install 'thesis_tf[redis]'"
            ) from None
        parts = urllib.parse.urlsplit(url)
        self._redis, self._shown, self._cluster = redis, shown, cluster
        self._tls = parts.scheme == "rediss"
        options = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        for name, values in options.items():
            checks.one_of("An option in the store's URL", name, OPTIONS)
            if name in _FILES and not pathlib.Path(values[0]).exists():
                raise checks.invalid(f"`{name}` in the store's URL", "there", values[0])
        settings = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            # `run` tries again itself, where it is known whether that helps.
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            "protocol": 2,
        }
        if self._tls and options.get("ssl_cert_reqs") != ["none"]:
            settings["ssl_check_hostname"] = True  # not the default before redis-py 6
        try:
            self._pool = redis.ConnectionPool.from_url(url, **settings)
            self._pool.make_connection()
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ValueError(f"The URL of {self._shown} is not valid: {error}.") from None
        # The node in the URL, the one to connect to, and connections to that which are not in use.
        self._seed = self._node = {"host": parts.hostname, "port": parts.port or 6379}
        self._idle, self._process = [], os.getpid()
        self._lock = threading.Lock()

    def call(self, *commands):
        """Sends commands in one go; returns their replies."""

        def work(wire):
            wire.send(*commands)
            return [wire.reply() for _ in commands]

        return self.run(work)

    def script(self, script, keys, arguments):
        """Runs a `Script`; returns its reply."""
        rest = (len(keys), *keys, *arguments)

        def work(wire):
            wire.send(("EVALSHA", script.sha, *rest))
            try:
                return wire.reply()
            except ReplyError as error:
                if error.code != "NOSCRIPT":
                    raise
            wire.send(("EVAL", script.text, *rest))
            return wire.reply()

        return self.run(work)

    def run(self, work):
        """Returns `work(wire)`; a second time if the first wire turns out to have died earlier.

        `work` must come to the same if it is done twice, and must take all replies it asks for.

        Raises:
            StoreError: of the kind that says what can be done.
        """
        for _ in range(_HOPS):
            wire, fresh = self._take()
            try:
                result = work(wire)
            except ReplyError as error:
                wire.close()
                if not (self._cluster and error.code == "MOVED"):
                    raise self.translate(error) from None
                self._follow(str(error))
            except (OSError, ProtocolError) as error:
                wire.close()
                if fresh or isinstance(error, (TimeoutError, ProtocolError)):
                    self._forget()
                    raise self.translate(error) from None
                self._forget()
            except BaseException:
                wire.close()
                raise
            else:
                self._give(wire)
                return result
        raise errors.StoreUnavailableError(
            f"{self._shown}: the cluster moves the run from node to node. Wait until it is done."
        )

    def close(self):
        """Closes the connections that are not in use."""
        self._forget()

    def _take(self):
        with self._lock:
            if self._process != os.getpid():
                # A forked child must not talk on its parent's connections, nor end them.
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop(), False
            node = self._node
        try:
            return self._connect(node), True
        except errors.StoreUnavailableError:
            if node == self._seed:
                raise
            self._forget()
            return self._connect(self._seed), True

    def _connect(self, node):
        connection = self._pool.connection_class(**{**self._pool.connection_kwargs, **node})
        try:
            connection.connect()
        except (self._redis.RedisError, OSError) as error:
            connection.disconnect()
            raise self.translate(error) from None
        return Wire(connection)

    def _give(self, wire):
        with self._lock:
            self._idle.append(wire)

    def _forget(self, node=None):
        """Closes idle connections; the next one goes to `node`, the one in the URL by default."""
        with self._lock:
            wires, self._idle, self._node = self._idle, [], node or self._seed
        for wire in wires:
            wire.close()

    def _follow(self, moved):
        host, _, port = moved.split()[2].rpartition(":")
        self._forget({"host": host or self._node["host"], "port": int(port)})

    def translate(self, error):
        """Returns the `StoreError` for what the connection, redis-py or the server says."""
        names = self._redis.exceptions
        text = str(error).rstrip(".") or type(error).__name__
        code = error.code if isinstance(error, ReplyError) else ""
        causes = [error, error.__cause__, error.__context__]
        if code == LOST:
            return errors.RunNotFoundError(
                f"The run on {self._shown} is not the one that was joined: it was deleted or made"
                " anew, or the server was restarted empty. Call `create` or `join` again."
            )
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return errors.StoreRefusedError(
                f"{self._shown}: no TLS connection ({text}). Check the certificates on both sides"
                " (`ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` in the URL), and that this is"
                " the server's TLS port."
            )
        if isinstance(error, (names.AuthenticationError, names.AuthorizationError)) or (
            code in _NEVER or isinstance(error, names.NoPermissionError)
        ):
            return errors.StoreRefusedError(
                f"{self._shown} refuses this user: {text}. Check user and password in the URL, and"
                " that the user may read and write all keys of the run and run scripts."
            )
        if isinstance(error, (ProtocolError, names.InvalidResponse)):
            return errors.StoreRefusedError(
                f"{self._shown} is not a Redis server ({text}). Check host and port."
            )
        if code == "MOVED":
            return errors.StoreRefusedError(
                f"{self._shown} is a node of a cluster. Write the URL with redis+cluster://."
            )
        busy = code in _LATER or "max number of clients" in text
        if busy or isinstance(error, (OSError, names.ConnectionError, names.TimeoutError)):
            advice = "Wait until it is ready." if busy else "Is the server up?"
            if not busy and not any(isinstance(c, ConnectionRefusedError) for c in causes):
                advice += f" Is this the server's {'TLS' if self._tls else 'plain'} port?"
            return errors.StoreUnavailableError(
                f"{self._shown} can't be reached or can't answer now: {text}. {advice}"
            )
        return errors.StoreError(f"{self._shown} answered: {text}.")
