"""The URL of the store where the processes of a run meet, and errors of stores."""

import contextlib
import dataclasses
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bin.common import ends, flags
from bin.common.flags import option
from thesis_tf.reporting import progress

if TYPE_CHECKING:
    from thesis_tf.issgd import stores

SCHEMES = ("shm", "redis", "rediss", "redis+cluster", "rediss+cluster")


@dataclasses.dataclass(frozen=True)
class StoreUrl:
    """The URL of the store. It isn't part of a run's config, since it may contain a password."""

    store: str | None = option(
        None,
        "URL of the store where the processes meet: shm://NAME (one machine),"
        " redis://[user:password@]host:port/0, rediss:// (TLS), redis+cluster://. Default:"
        " $ISSGD_STORE, else shm://RUN_ID, or for bin.issgd_master --local_workers shared memory"
        " of its output folder. If the URL has a password, pass it in $ISSGD_STORE rather than on"
        " the command line.",
    )


def given_url() -> str | None:
    """Returns the URL from the flag or the environment, None if neither has one.

    Raises:
        UsageError: it isn't the URL of a store; raised before TensorFlow is loaded.
    """
    url = flags.read(StoreUrl).store or os.environ.get("ISSGD_STORE")
    if not url:
        return None
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise flags.UsageError(
            f"--store or $ISSGD_STORE must be a URL that begins with"
            f" {', '.join(f'{s}://' for s in SCHEMES)}. Received: {scheme[:20]}..."
        )
    return url


def url_of_run(run_id: str) -> str:
    """Returns the given URL, or one of shared memory for this run; raises UsageError."""
    return given_url() or f"shm://{run_id}"


def url_of_folder(folder: pathlib.Path, run_id: str) -> str:
    """Returns the URL of shared memory for a master with this output folder and its workers."""
    return f"shm://{run_id}-{zlib.crc32(os.fsencode(folder.resolve())):08x}"


def open_store(url: str, run_id: str) -> "stores.Store":
    """Returns the store of a run.

    Raises:
        StoreError: it doesn't answer; raised before an output folder is emptied.
    """
    from thesis_tf.issgd import stores

    store = stores.open_store(url, run_id=run_id)
    store.time()
    return store


@contextlib.contextmanager
def freed(store: "stores.Store | None") -> Iterator[None]:
    """Deletes a store at the end, also after an error; None is a store that others use.

    What a training needs to continue is in its checkpoint. Only a kill leaves shared memory behind.
    """
    if store is None:
        yield
        return
    from thesis_tf.issgd.stores import RunTakenError

    try:
        yield
    except RunTakenError:  # it is that of a training in another process
        raise
    except BaseException:
        with contextlib.suppress(Exception):
            store.delete()
        raise
    store.delete()


def log_what_stays(url: str, run_id: str) -> None:
    """Logs how to free shared memory, which other processes may still be using."""
    if url.startswith("shm://"):
        free = (
            f"from thesis_tf.issgd import stores; stores.open_store('{url}', '{run_id}').delete()"
        )
        progress.say(
            "The run stays in shared memory for other processes. When all have ended, free it:"
            f' python -c "{free}"'
        )


@contextlib.contextmanager
def clean_errors() -> Iterator[None]:
    """Turns an error of a store into one that ends the program with one line."""
    try:
        yield
    except flags.UsageError:  # answered without TensorFlow
        raise
    except Exception as error:
        from thesis_tf.issgd.stores import RunMismatchError, StoreError

        if isinstance(error, RunMismatchError):
            raise flags.UsageError(str(error)) from error
        if isinstance(error, StoreError):
            raise ends.RunError(str(error)) from error
        raise
