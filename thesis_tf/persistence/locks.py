"""Locks on files, which the operating system releases when their holder ends for any reason.

They hold among all processes of a machine, and on NFS (Linux) and most shared file systems also
among machines. A process that is forked while a lock is held, holds it as well.
"""

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
        OSError: the file can't be created, or its file system has no locks.
    """
    file = acquire(path, wait=wait)
    try:
        yield file
    finally:
        file.close()


def acquire(path: str | os.PathLike[str], *, wait: bool, shared: bool = False) -> TextIO:
    """Acquires the lock on a file, like `locked`, until the returned file is closed.

    Args:
        path: the file.
        wait: whether to wait until another process releases the lock.
        shared: whether others may hold it at the same time, if they acquire it in the same way.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LockedError(f"Another process holds the lock on {path}.") from None
    except BaseException:
        file.close()
        raise
    return file
