"""`memory://`: a run in this process, whose workers are threads."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from thesis_tf.issgd.stores.backends.base import Bytes
from thesis_tf.issgd.stores.backends.without_server import LocalBackend, State


class _Space:
    """The data of a run."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.state: State = {}
        self.weights: dict[str, bytearray] = {}
        self.parameters: dict[tuple[str, str], list[Bytes]] = {}


_SPACES: dict[tuple[str, str], _Space] = {}
_SPACES_LOCK = threading.Lock()


class MemoryBackend(LocalBackend):
    """A run in this process; the same name and run id are the same run.

    It lasts until it is deleted or the process ends.
    """

    def __init__(self, name: str, run_id: str) -> None:
        self.where = f"Run {run_id!r} of memory://{name}"
        with _SPACES_LOCK:
            self._space = _SPACES.setdefault((name, run_id), _Space())
        # Unconfirmed chunks belong to this object and are deleted with it.
        self._pending: dict[tuple[str, str], list[Bytes]] = {}

    @contextlib.contextmanager
    def _state(self, change: bool = False) -> Iterator[State]:
        with self._space.lock:
            yield self._space.state

    def _make_weights(self, split: str, data: bytes) -> None:
        self._space.weights[split] = bytearray(data)

    def _weights_size(self, split: str) -> int:
        return len(self._space.weights.get(split, b""))

    def _read(self, split: str, offset: int, view: memoryview) -> None:
        view[:] = memoryview(self._space.weights[split])[offset : offset + len(view)]

    def _write(self, split: str, offset: int, data: bytes | memoryview) -> None:
        self._space.weights[split][offset : offset + len(data)] = data

    def write_chunks(self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes]) -> None:
        """See `Backend`."""
        with self._run(tag):
            pass
        self._pending[slot, stamp] = [np.array(chunk) for chunk in chunks]

    def _confirm(self, slot: str, stamp: str) -> bool:
        chunks = self._pending.pop((slot, stamp), None)
        if chunks is None:
            return False
        self._space.parameters[slot, stamp] = chunks
        return True

    def _drop(self, slot: str | None, keep: Collection[str | None]) -> None:
        for key in list(self._space.parameters):
            if slot is None or (key[0] == slot and key[1] not in keep):
                del self._space.parameters[key]

    def read_chunks(
        self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes], check: Callable[[int], bool]
    ) -> bool:
        """See `Backend`."""
        with self._run(tag):
            found = self._space.parameters.get((slot, stamp))
        if found is None:
            return False
        for number, chunk in enumerate(chunks):
            chunk[:] = found[number]
            if not check(number):
                return False
        return True

    def delete(self) -> None:
        """See `Backend`."""
        with self._space.lock:
            for part in (self._space.state, self._space.weights, self._space.parameters):
                part.clear()

    def close(self) -> None:
        """See `Backend`."""
        self._pending.clear()
