"""Opens a store from its URL."""

import re
import urllib.parse
from collections.abc import Callable

from thesis_tf._core import checks
from thesis_tf.issgd.stores.backends.base import Backend
from thesis_tf.issgd.stores.backends.memory import MemoryBackend
from thesis_tf.issgd.stores.backends.shm import ShmBackend
from thesis_tf.issgd.stores.run_spec import check_name
from thesis_tf.issgd.stores.store import Store

FORMS = (
    "memory://[NAME], shm://NAME, redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://... (TLS),"
    " redis+cluster://HOST[:PORT] or rediss+cluster://..."
)
# Stores on this machine, of which the URL is a name.
_LOCAL: dict[str, Callable[[str, str], Backend]] = {"memory": MemoryBackend, "shm": ShmBackend}
_REDIS = {
    "redis": ("redis", False),
    "rediss": ("rediss", False),
    "redis+cluster": ("redis", True),
    "rediss+cluster": ("rediss", True),
}


def open_store(url: str, *, run_id: str | None = None) -> Store:
    """Returns the `Store` of a run; its first call connects.

    Args:
        url: `memory://NAME` for threads of this process, `shm://NAME` for processes of this
            machine, or for any machines `redis://HOST:PORT/DB`, `rediss://` with TLS, and
            `redis+cluster://`. TLS is configured by options of redis-py, such as
            `?ssl_ca_certs=ca.pem&ssl_certfile=me.pem&ssl_keyfile=me.key`; the default of
            `socket_timeout` is 5 seconds.
        run_id: the run's name; "default" if None. Runs of different names share nothing.

    Raises:
        ValueError: the URL or the run's name is invalid.
        ImportError: a Redis URL, and the package `redis` is not installed.
    """
    run_id = check_name("`run_id`", "default" if run_id is None else run_id)
    if not isinstance(url, str):
        raise checks.invalid("A store's URL", FORMS, type(url).__name__, kind=TypeError)
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad(url) from None
    if parts.scheme in _LOCAL:
        name = parts.netloc
        if parts.path or parts.query or parts.fragment or (parts.scheme == "shm" and not name):
            raise _bad(url)
        if name:
            check_name(f"The NAME in {parts.scheme}://NAME", name)
        return Store(_LOCAL[parts.scheme](name, run_id))
    if parts.scheme not in _REDIS or not parts.hostname or parts.fragment:
        raise _bad(url)
    scheme, cluster = _REDIS[parts.scheme]
    # A cluster has no database but 0.
    if not re.fullmatch("/?" if cluster else r"/?\d*", parts.path):
        raise _bad(url)
    try:
        import redis  # noqa: F401
    except ImportError:
        raise ImportError(
            "A redis:// store requires the package `redis`: pip install 'thesis_tf[redis]'"
        ) from None
    from thesis_tf.issgd.stores.backends.redis.backend import RedisBackend

    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}:{port or 6379}{parts.path.rstrip('/')}"
    return Store(
        RedisBackend(parts._replace(scheme=scheme).geturl(), shown, run_id, cluster=cluster)
    )


def _bad(url: str) -> Exception:
    return checks.invalid("A store's URL", f"one of {FORMS}", repr(_without_password(url)))


def _without_password(url: str) -> str:
    """Returns the URL for a message, without anything that may be a password."""
    before, at, after = url.partition("?")[0].rpartition("@")
    return f"{before.partition('://')[0]}://...@{after}" if at else after
