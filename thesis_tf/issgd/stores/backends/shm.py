"""`shm://NAME`: a run for the processes of one machine, in files of its memory file system.

The files are in memory, like those of `multiprocessing.shared_memory` (which also creates a file in
/dev/shm), without its two problems: before Python 3.13 its resource tracker deletes a segment in
use as soon as any process that attached to it ends, and it has no lock. The kernel releases a lock
on a file when its holder is killed, so no process can leave the run locked.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from thesis_tf.issgd.stores import errors
from thesis_tf.issgd.stores.backends.base import Bytes, StoredRun
from thesis_tf.issgd.stores.backends.without_server import LocalBackend, State
from thesis_tf.issgd.stores.run_spec import RunSpec
from thesis_tf.issgd.transport import clock

MEMORY = pathlib.Path("/dev/shm")
# Seconds to wait for a lock. A lock is held for about a millisecond, unless a process is suspended.
WAIT = 10.0
_LOCK, _STATE = "lock", "state.json"


class ShmBackend(LocalBackend):
    """A run in the folder thesis_tf-UID-NAME/RUN_ID of the memory file system.

    It lasts until it is deleted or the machine restarts.
    """

    def __init__(self, name: str, run_id: str) -> None:
        root = MEMORY if os.access(MEMORY, os.W_OK) else pathlib.Path(tempfile.gettempdir())
        self.where = f"Run {run_id!r} of shm://{name}"
        self._folder = root / f"thesis_tf-{os.getuid()}-{name}" / run_id
        # Files of chunks that are being written; this process holds a lock on each.
        self._pending: dict[tuple[str, str], int] = {}

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.parent.mkdir(mode=0o700)
        self._check_folder()
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _check_folder(self) -> None:
        # In a world-writable folder, another user may have created this folder first.
        found = self._folder.parent.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.getuid()
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise errors.StoreRefusedError(
                f"{self._folder.parent} is not a folder that only user {os.getuid()} can read and"
                " write. Remove it, or choose another name than the one in shm://."
            )

    def _lock(self, change: bool) -> int:
        """Returns the descriptor of the locked file; raises FileNotFoundError without a run."""
        path, until, pause = self._folder / _LOCK, clock.now() + WAIT, 1e-4
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(
                    descriptor, (fcntl.LOCK_EX if change else fcntl.LOCK_SH) | fcntl.LOCK_NB
                )
                # If the run was deleted and created again, the file is another one.
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
            except BlockingIOError:
                if clock.now() > until:
                    os.close(descriptor)
                    raise errors.StoreUnavailableError(
                        f"{self.where} has been locked for {WAIT:.0f} s: one of its processes is"
                        " suspended. Resume or kill it."
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 2e-3)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    @contextlib.contextmanager
    def _state(self, change: bool = False) -> Iterator[State]:
        try:
            descriptor = self._lock(change)
        except FileNotFoundError:
            yield {}
            return
        try:
            try:
                text = (self._folder / _STATE).read_text(encoding="utf-8")
            except FileNotFoundError:
                text = "{}"
            state = json.loads(text)
            yield state
            if change and (new := json.dumps(state)) != text:
                # Only the holder of the lock writes this file; leftovers of a kill are overwritten.
                partial = self._folder / f"{_STATE}.new"
                partial.write_text(new, encoding="utf-8")
                partial.replace(self._folder / _STATE)
        finally:
            os.close(descriptor)

    def find(self) -> StoredRun | None:
        """See `Backend`."""
        with contextlib.suppress(FileNotFoundError):
            self._check_folder()
        return super().find()

    def create(self, run: StoredRun, spec: RunSpec) -> StoredRun:
        """See `Backend`."""
        while True:
            try:
                self._make_folder()
                os.close(os.open(self._folder / _LOCK, os.O_CREAT | os.O_CLOEXEC, 0o600))
                with self._room():
                    return super().create(run, spec)
            except FileNotFoundError:
                continue  # another process deleted the run in between

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise errors.StoreError(
                f"{self._folder} has no room: the run needs its weights and three times its"
                " parameters. In a container, give it more shared memory (`--shm-size`)."
            ) from None

    def _make_weights(self, split: str, data: bytes) -> None:
        (self._folder / f"w@{split}").write_bytes(data)

    def _weights_size(self, split: str) -> int:
        try:
            return (self._folder / f"w@{split}").stat().st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _weights(self, split: str) -> Iterator[int]:
        try:
            descriptor = os.open(self._folder / f"w@{split}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._lost() from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, split: str, offset: int, view: memoryview) -> None:
        with self._weights(split) as descriptor:
            if not _read_whole(descriptor, view, offset):
                raise self._lost()

    def _write(self, split: str, offset: int, data: bytes | memoryview) -> None:
        with self._weights(split) as descriptor:
            _write_whole(descriptor, data, offset)

    def _chunks(self, slot: str, stamp: str) -> pathlib.Path:
        return self._folder / f"p@{slot}@{stamp}"

    def write_chunks(self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes]) -> None:
        """See `Backend`."""
        with self._run(tag):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            descriptor = os.open(self._chunks(slot, stamp), flags, 0o600)
            # The lock shows `_drop` that the writer is alive.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._pending[slot, stamp] = descriptor
        offset = 0
        try:
            with self._room():
                for chunk in chunks:
                    _write_whole(descriptor, chunk, offset)
                    offset += len(chunk)
        except BaseException:
            self._forget(slot, stamp)
            raise

    def _confirm(self, slot: str, stamp: str) -> bool:
        descriptor = self._pending.pop((slot, stamp), None)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None and self._chunks(slot, stamp).exists()

    def _drop(self, slot: str | None, keep: Collection[str | None]) -> None:
        """Removes confirmed chunks, and those of writers that were killed."""
        for path in self._folder.glob("p@*" if slot is None else f"p@{slot}@*"):
            if path.name.rpartition("@")[2] in keep:
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            os.close(descriptor)

    def read_chunks(
        self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes], check: Callable[[int], bool]
    ) -> bool:
        """See `Backend`."""
        try:
            # An open file can be read to its end even if it is removed in the meantime.
            with self._run(tag):
                descriptor = os.open(self._chunks(slot, stamp), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            offset = 0
            for number, chunk in enumerate(chunks):
                if not _read_whole(descriptor, chunk.data, offset) or not check(number):
                    return False
                offset += len(chunk)
            return True
        finally:
            os.close(descriptor)

    def delete(self) -> None:
        """See `Backend`."""
        with self._state(change=True):
            for path in self._folder.glob("*"):
                if path.name != _LOCK:
                    path.unlink()
            # The file of the lock is removed last: others wait for it until all else is removed.
            shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs are in it
            self._folder.parent.rmdir()

    def close(self) -> None:
        """See `Backend`."""
        for slot, stamp in list(self._pending):
            self._forget(slot, stamp)

    def _forget(self, slot: str, stamp: str) -> None:
        os.close(self._pending.pop((slot, stamp)))
        self._chunks(slot, stamp).unlink(missing_ok=True)


def _read_whole(descriptor: int, view: memoryview, offset: int) -> bool:
    while len(view):
        read = os.preadv(descriptor, [view], offset)
        if read == 0:
            return False
        view, offset = view[read:], offset + read
    return True


def _write_whole(descriptor: int, data: Any, offset: int) -> None:
    data = memoryview(data)
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
