"""Backends without a server: one small state, changed under one lock."""

import abc
import contextlib
import struct
from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

from thesis_tf.issgd.stores import blocks, errors
from thesis_tf.issgd.stores.backends.base import (
    Backend,
    BlockRecord,
    Bytes,
    Floats,
    MasterClaim,
    Offsets,
    StoredRun,
)
from thesis_tf.issgd.stores.parameters import Head
from thesis_tf.issgd.stores.run_spec import RunSpec
from thesis_tf.issgd.transport import clock

State: TypeAlias = dict[str, Any]

DAY = 86_400.0


class LocalBackend(Backend):
    """Runs, claims, leases and heads, kept in a JSON-serializable dict.

    A subclass determines where the state, the gradient norms and the parameters are, and how they
    are locked. Processes share only the result of `_state`, so one lock is sufficient.
    """

    @abc.abstractmethod
    def _state(self, change: bool = False) -> contextlib.AbstractContextManager[State]:
        """Returns a context that holds the lock and yields the state, {} if there is no run.

        Args:
            change: whether the lock must be exclusive; changes are kept if no exception leaves the
                context.
        """

    @abc.abstractmethod
    def _make_weights(self, split: str, data: bytes) -> None:
        """Creates the records of a split; called within `_state`."""

    @abc.abstractmethod
    def _weights_size(self, split: str) -> int:
        """Returns the bytes of the records of a split, 0 without them."""

    @abc.abstractmethod
    def _read(self, split: str, offset: int, view: memoryview) -> None:
        """Fills a view with records of a split; raises `RunNotFoundError` without them."""

    @abc.abstractmethod
    def _write(self, split: str, offset: int, data: bytes | memoryview) -> None:
        """Overwrites bytes of the records of a split; raises `RunNotFoundError` without them."""

    @abc.abstractmethod
    def _confirm(self, slot: str, stamp: str) -> bool:
        """Moves chunks to where readers find them; returns whether there were any."""

    @abc.abstractmethod
    def _drop(self, slot: str | None, keep: Collection[str | None]) -> None:
        """Removes confirmed chunks of a slot, or of all for None, except those of some stamps."""

    @contextlib.contextmanager
    def _run(self, tag: str, change: bool = False) -> Iterator[State]:
        with self._state(change) as state:
            if state.get("tag") != tag:
                raise self._lost()
            yield state

    def _lost(self) -> errors.RunNotFoundError:
        return errors.RunNotFoundError(
            f"{self.where} is not the run that was joined: it was deleted or created again. Call"
            " `create` or `join` again."
        )

    def find(self) -> StoredRun | None:
        """See `Backend`."""
        with self._state() as state:
            if state and all(self._weights_size(s) == size for s, size in state["sizes"].items()):
                return StoredRun(state["tag"], state["spec"])
        return None

    def create(self, run: StoredRun, spec: RunSpec) -> StoredRun:
        """See `Backend`."""
        if found := self.find():
            return found
        images = {
            split: blocks.blank(run.tag, spec.block_size, spec.num_blocks(split))
            for split, _ in spec.splits
        }
        with self._state(change=True) as state:
            if state and state["tag"] == run.tag:
                return run
            if state and all(self._weights_size(s) == size for s, size in state["sizes"].items()):
                return StoredRun(state["tag"], state["spec"])
            self._drop(None, ())
            for split, image in images.items():
                self._make_weights(split, image)
            state.clear()
            state.update(
                tag=run.tag,
                spec=run.spec,
                sizes={split: len(image) for split, image in images.items()},
                finished=False,
                master=None,
                leases={split: {} for split in images},
                cursors=dict.fromkeys(images, 0),
                heads={},
                alive={},
            )
        return run

    def set_finished(self, tag: str, finished: bool) -> None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            state["finished"] = finished

    def is_finished(self, tag: str) -> bool:
        """See `Backend`."""
        with self._run(tag) as state:
            return state["finished"]

    def claim_master(self, tag: str, token: str, seconds: float) -> MasterClaim | None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            time, since = clock.now(), None
            if state["master"]:
                holder, since, until = state["master"]
                if holder != token and time < until:
                    return MasterClaim(time - since, until - time)
                since = since if holder == token else None
            state["master"] = [token, time if since is None else since, time + seconds]
        return None

    def release_master(self, tag: str, token: str) -> None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            if state["master"] and state["master"][0] == token:
                state["master"] = None

    def head(self, tag: str, slot: str) -> Head | None:
        """See `Backend`."""
        with self._run(tag) as state:
            text = state["heads"].get(slot)
        return text and Head.from_json(text)

    def set_head(self, tag: str, slot: str, head: Head, current: Head | None) -> bool:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            if state["heads"].get(slot) != (current and current.to_json()):
                return False
            if not self._confirm(slot, head.stamp):
                raise errors.StoreError(f"The chunks of parameters {head.version} are gone.")
            state["heads"][slot] = head.to_json()
            self._drop(slot, (head.stamp, head.previous))
        return True

    def lease(self, tag: str, split: str, count: int, worker: str, seconds: float) -> int | None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            time, leases = clock.now(), state["leases"][split]
            expired = [(until, int(block)) for block, (until, _) in leases.items() if until <= time]
            if expired:
                _, block = min(expired)
            elif len(leases) == count:
                return None
            else:
                block = state["cursors"][split]
                while str(block) in leases:
                    block = (block + 1) % count
                state["cursors"][split] = (block + 1) % count
            leases[str(block)] = [time + seconds, worker]
        return block

    def release(self, tag: str, split: str, block: int, worker: str) -> None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            self._end_lease(state, split, block, worker)

    def _end_lease(self, state: State, split: str, block: int, worker: str) -> None:
        leases = state["leases"][split]
        if str(block) in leases and leases[str(block)][1] == worker:
            del leases[str(block)]

    def read_header(self, tag: str, split: str, offset: int) -> bytes:
        """See `Backend`."""
        header = bytearray(blocks.HEADER.itemsize)
        with self._run(tag):
            self._read(split, offset, memoryview(header))
        return bytes(header)

    def write_block(self, tag: str, record: BlockRecord) -> None:
        """See `Backend`."""
        split, offset, old = record.split, record.offset, bytearray(blocks.HEADER.itemsize)
        with self._run(tag, change=True) as state:
            self._read(split, offset, memoryview(old))
            if (blocks.version_of(bytes(old), tag) or 0) <= record.version:
                # Values are written before the header: after a kill in between, values are newer
                # than their header says, never older.
                self._write(split, offset + blocks.HEADER.itemsize, record.values)
                self._write(split, offset, record.header + struct.pack("<d", clock.now()))
            self._end_lease(state, split, record.block, record.worker)

    def write_values(
        self, tag: str, split: str, size: int, offsets: Offsets, values: Floats
    ) -> None:
        """See `Backend`."""
        data = values.data.cast("B")
        with self._run(tag, change=True):
            for number, offset in enumerate(offsets.tolist()):
                self._write(split, offset, data[4 * number : 4 * number + 4])

    def read_weights(self, tag: str, split: str, data: Bytes) -> float:
        """See `Backend`."""
        with self._run(tag):
            self._read(split, 0, data.data)
            return clock.now()

    def heartbeat(self, tag: str, role: str, name: str) -> None:
        """See `Backend`."""
        with self._run(tag, change=True) as state:
            time = clock.now()
            alive = state["alive"].setdefault(role, {})
            alive[name] = time
            for other in [other for other, seen in alive.items() if seen < time - DAY]:
                del alive[other]

    def alive(self, tag: str, role: str, within: float) -> list[str]:
        """See `Backend`."""
        with self._run(tag) as state:
            since = clock.now() - within
            return [name for name, seen in state["alive"].get(role, {}).items() if seen >= since]

    def time(self) -> float:
        """See `Backend`."""
        return clock.now()
