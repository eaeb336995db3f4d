"""Connections to a Redis server or cluster, whose errors are converted to those of a store."""

import os
import pathlib
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import redis

from thesis_tf._core import checks
from thesis_tf.issgd.stores import errors
from thesis_tf.issgd.stores.backends.redis.bulk import BulkConnection
from thesis_tf.issgd.stores.backends.redis.scripts import RUN_LOST, Script

_T = TypeVar("_T")
Command = Sequence[Any]

TIMEOUT = 5.0  # seconds without a byte
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
OPTIONS = (
    *_FILES,
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_password",
    "socket_timeout",
    "socket_connect_timeout",
    "client_name",
)
# Temporary conditions: a server that is starting, failing over, resharding, or full.
_LATER = (
    "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "ASK", "READONLY", "OOM",
    "MISCONF", "NOREPLICAS", "UNKILLABLE", "MAXCLIENTS",
)  # fmt: skip
_NEVER = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED")
# redis-py removes these words from a server's error and has a class for each.
_CODES = (
    (redis.exceptions.NoScriptError, "NOSCRIPT"),
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.NoPermissionError, "NOPERM"),
    (redis.exceptions.BusyLoadingError, "LOADING"),
    (redis.exceptions.MovedError, "MOVED"),
    (redis.exceptions.AskError, "ASK"),
    (redis.exceptions.TryAgainError, "TRYAGAIN"),
    (redis.exceptions.MasterDownError, "MASTERDOWN"),
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
)
# The reply of a server that accepts no more connections. It has neither a code nor a class of its
# own, so redis-py compares the reply, too; here it has the code MAXCLIENTS.
_FULL = "max number of clients reached"
_HOPS = 5


class _Commands:
    """A connection of redis-py."""

    def __init__(self, connection: redis.connection.AbstractConnection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.disconnect()

    def call(self, commands: Iterable[Command]) -> list[Any]:
        """Sends commands together; returns their replies, strings as bytes."""
        commands = list(commands)
        packed = self._connection.pack_commands(commands)
        self._connection.send_packed_command(packed, check_health=False)
        return [self._connection.read_response(disable_decoding=True) for _ in commands]

    def write(self, commands: Iterable[Command]) -> None:
        """Sends commands one by one, each with a separate time-out, then reads the replies."""
        commands = list(commands)
        for command in commands:
            packed = self._connection.pack_command(*command)
            self._connection.send_packed_command(packed, check_health=False)
        # The replies are short, so they can be read after all commands were sent.
        for _ in commands:
            self._connection.read_response(disable_decoding=True)


class Client:
    """A pool of connections to one server, or to the node of a cluster that has the run's keys.

    Args:
        url: a `redis://` or `rediss://` URL.
        shown: the URL without the password, for messages.
        cluster: whether the server may redirect to another node.

    Raises:
        ValueError: the URL is invalid.
    """

    def __init__(self, url: str, shown: str, *, cluster: bool = False) -> None:
        parts = urllib.parse.urlsplit(url)
        self._shown, self._cluster = shown, cluster
        self._tls = parts.scheme == "rediss"
        options = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        for name, values in options.items():
            checks.one_of("An option in the store's URL", name, OPTIONS)
            if name in _FILES and not pathlib.Path(values[0]).exists():
                raise checks.invalid(f"`{name}` in the store's URL", "an existing file", values[0])
        settings = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            # `_run` retries, since it knows whether a retry helps.
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
        # The node in the URL, the node to connect to, and idle connections to the latter.
        self._seed = self._node = {"host": parts.hostname, "port": parts.port or 6379}
        self._idle: dict[type, list[Any]] = {_Commands: [], BulkConnection: []}
        self._process = os.getpid()
        self._lock = threading.Lock()

    def call(self, *commands: Command) -> list[Any]:
        """Sends commands together; returns their replies, strings as bytes.

        Raises:
            StoreError: the subclass depends on what the caller can do.
        """
        return self._run(_Commands, lambda connection: connection.call(commands))

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Runs a `Script`; returns its reply.

        Raises:
            StoreError: as by `call`.
        """
        rest = (len(keys), *keys, *arguments)

        def work(connection: _Commands) -> Any:
            try:
                return connection.call([("EVALSHA", script.sha, *rest)])[0]
            except redis.exceptions.NoScriptError:
                return connection.call([("EVAL", script.text, *rest)])[0]

        return self._run(_Commands, work)

    def write(self, commands: Iterable[Command]) -> None:
        """Sends commands with large arguments one by one, then reads the replies.

        Raises:
            StoreError: as by `call`.
        """
        commands = list(commands)

        def work(connection: _Commands) -> None:
            connection.write(commands)

        self._run(_Commands, work)

    def bulk(self, work: Callable[[BulkConnection], _T]) -> _T:
        """Returns `work(connection)` of a `BulkConnection`.

        Args:
            work: a function that receives everything it requests, and is idempotent.

        Raises:
            StoreError: as by `call`.
        """
        return self._run(BulkConnection, work)

    def _run(self, kind: type, work: Callable[[Any], _T]) -> _T:
        """Returns `work(connection)`; a second time if an idle connection turns out to be dead."""
        for _ in range(_HOPS):
            connection, fresh = self._take(kind)
            try:
                result = work(connection)
            except (redis.RedisError, OSError) as error:
                connection.close()
                code, text = code_and_text(error)
                if self._cluster and code == "MOVED":
                    self._follow(text)
                    continue
                if _is_answer(error):
                    raise self.translate(error) from None
                self._forget()
                if fresh or isinstance(
                    error, (TimeoutError, redis.TimeoutError, redis.InvalidResponse)
                ):
                    raise self.translate(error) from None
            except BaseException:
                connection.close()
                raise
            else:
                with self._lock:
                    self._idle[kind].append(connection)
                return result
        raise errors.StoreUnavailableError(
            f"{self._shown}: the cluster moves the run between nodes. Wait until it is done."
        )

    def close(self) -> None:
        """Closes the connections that are not in use."""
        self._forget()

    def _take(self, kind: type) -> tuple[Any, bool]:
        """Returns a connection, and whether it is new."""
        with self._lock:
            if self._process != os.getpid():
                # A forked child must neither use nor close its parent's connections.
                self._idle = {kind: [] for kind in self._idle}
                self._process = os.getpid()
            if self._idle[kind]:
                return self._idle[kind].pop(), False
            node = self._node
        try:
            return self._connect(kind, node), True
        except errors.StoreUnavailableError:
            if node == self._seed:
                raise
            self._forget()
            return self._connect(kind, self._seed), True

    def _connect(self, kind: type, node: dict[str, Any]) -> Any:
        settings = {**self._pool.connection_kwargs, **node}
        try:
            if kind is BulkConnection:
                return BulkConnection(settings, self._tls)
            connection = self._pool.connection_class(**settings)
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
        except (redis.RedisError, OSError) as error:
            raise self.translate(error) from None
        return _Commands(connection)

    def _forget(self, node: dict[str, Any] | None = None) -> None:
        """Closes idle connections; the next one goes to `node`, the one in the URL by default."""
        with self._lock:
            idle, self._idle = self._idle, {kind: [] for kind in self._idle}
            self._node = node or self._seed
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _follow(self, moved: str) -> None:
        host, _, port = moved.split()[2].rpartition(":")
        self._forget({"host": host or self._node["host"], "port": int(port)})

    def lost(self) -> errors.StoreError:
        """Returns the error for a run that is not the one that was joined."""
        return self.translate(redis.ResponseError(f"{RUN_LOST} no such run"))

    def translate(self, error: Exception) -> errors.StoreError:
        """Returns the `StoreError` for an error of the connection, redis-py or the server."""
        names = redis.exceptions
        code, text = code_and_text(error)
        causes = [error, error.__cause__, error.__context__]
        if code == RUN_LOST:
            return errors.RunNotFoundError(
                f"The run on {self._shown} is not the one that was joined: it was deleted or"
                " created again, or the server was restarted empty. Call `create` or `join` again."
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
                f"{self._shown} rejects this user: {text}. Check user and password in the URL, and"
                " that the user may read and write all keys of the run and run scripts."
            )
        if isinstance(error, names.InvalidResponse):
            return errors.StoreRefusedError(
                f"{self._shown} is not a Redis server ({text}). Check host and port."
            )
        if code == "MOVED":
            return errors.StoreRefusedError(
                f"{self._shown} is a node of a cluster. Write the URL with redis+cluster://."
            )
        busy = code in _LATER
        if busy or isinstance(error, (OSError, names.ConnectionError, names.TimeoutError)):
            advice = "Wait until it is ready." if busy else "Is the server up?"
            if not busy and not any(isinstance(c, ConnectionRefusedError) for c in causes):
                advice += f" Is this the server's {'TLS' if self._tls else 'plain'} port?"
            return errors.StoreUnavailableError(
                f"{self._shown} can't be reached or can't answer now: {text}. {advice}"
            )
        return errors.StoreError(f"{self._shown} answered: {text}.")


def code_and_text(error: BaseException) -> tuple[str, str]:
    """Returns the first word of a server's error, "" for other errors, and its text."""
    text = str(error).rstrip(".") or type(error).__name__
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, text if text.startswith(code) else f"{code} {text}"
    if isinstance(error, redis.RedisError) and text.removeprefix("ERR ") == _FULL:
        return "MAXCLIENTS", text
    # redis-py before 8 has no class for some errors, and a wrong password isn't a server error.
    code = text.partition(" ")[0] if isinstance(error, redis.RedisError) else ""
    return (code, text) if re.fullmatch("[A-Z]+", code) else ("", text)


def _is_answer(error: BaseException) -> bool:
    """Whether the server has answered with an error, so that the connection was alive."""
    return isinstance(error, (redis.ResponseError, redis.AuthenticationError)) or (
        code_and_text(error)[0] == "LOADING"
    )
