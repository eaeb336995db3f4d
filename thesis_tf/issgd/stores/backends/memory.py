"""`memory://`: a run in this process, whose workers are threads."""

import contextlib
import threading

import numpy as np

from thesis_tf.issgd.stores.backends.local import LocalBackend


class _Space:
    """What a run consists of."""

    def __init__(self):
        self.lock = threading.RLock()
        self.state = {}
        self.weights = {}
        self.parameters = {}


_SPACES = {}
_SPACES_LOCK = threading.Lock()


class MemoryBackend(LocalBackend):
    """A run in this process; the same name and run id are the same run.

    It lasts until it is deleted or the process ends.
    """

    def __init__(self, name, run_id):
        self.where = f"Run {run_id!r} of memory://{name}"
        with _SPACES_LOCK:
            self._space = _SPACES.setdefault((name, run_id), _Space())
        # Chunks that are not confirmed are this object's and go with it.
        self._pending = {}

    @contextlib.contextmanager
    def _state(self, change=False):
        with self._space.lock:
            yield self._space.state

    def _make_weights(self, split, data):
        self._space.weights[split] = bytearray(data)

    def _weights_size(self, split):
        return len(self._space.weights.get(split, b""))

    def _read(self, split, offset, view):
        view[:] = memoryview(self._space.weights[split])[offset : offset + len(view)]

    def _write(self, split, offset, data):
        self._space.weights[split][offset : offset + len(data)] = data

    def write_chunks(self, tag, slot, stamp, chunks):
        """See `Backend`."""
        with self._run(tag):
            pass
        self._pending[slot, stamp] = [np.array(chunk) for chunk in chunks]

    def _confirm(self, slot, stamp):
        chunks = self._pending.pop((slot, stamp), None)
        if chunks is None:
            return False
        self._space.parameters[slot, stamp] = chunks
        return True

    def _drop(self, slot, keep):
        for key in list(self._space.parameters):
            if slot is None or (key[0] == slot and key[1] not in keep):
                del self._space.parameters[key]

    def read_chunks(self, tag, slot, stamp, chunks, check):
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

    def delete(self):
        """See `Backend`."""
        with self._space.lock:
            for part in (self._space.state, self._space.weights, self._space.parameters):
                part.clear()

    def close(self):
        """See `Backend`."""
        self._pending.clear()
