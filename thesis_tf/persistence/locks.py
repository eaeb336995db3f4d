"""Locks on files, which the operating system releases when their holder ends for any reason."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool) -> Iterator[TextIO]:
    """Holds the lock on a file while the block runs; yields the open file.

    Args:
        path: the file, which is created with its folder if necessary. Its content is kept.
        wait: whether to wait until another process releases the lock.

    Raises:
        LockedError: another process holds the lock, and `wait` is False.
    """
    file = acquire(path, wait=wait)
    try:
        yield file
    finally:
        file.close()


def acquire(path: str | os.PathLike[str], *, wait: bool) -> TextIO:
    """Acquires the lock on a file, like `locked`, until the returned file is closed."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LockedError(f"Another process holds the lock on {path}.") from None
    except BaseException:
        file.close()
        raise
    return file
