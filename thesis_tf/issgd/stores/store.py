"""A store, in which a master publishes parameters and workers push gradient norms of examples."""

import functools
import secrets
import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.stores import blocks, errors, parameters
from thesis_tf.issgd.stores.backends.base import Backend, BlockRecord, StoredRun
from thesis_tf.issgd.stores.run_spec import RunSpec, check_name

Buffer: TypeAlias = bytes | bytearray | memoryview | np.ndarray

MASTER = "master"
_ATTEMPTS = 10


class Store:
    """One run in one backend, made by `open_store`; the protocol is the same for every backend.

    Call `create` (the master) or `join` (the others) first. Every later call checks that the run in
    the store is still that one. If the server was restarted empty, or the run was deleted or
    created again, it raises `RunNotFoundError`; after another `create` or `join` the same object
    works again. A lost connection is opened again by the next call.

    Several threads may use one store. Every call raises `StoreUnavailableError` if the store can't
    be reached and `StoreRefusedError` if it refuses this client.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._run: tuple[str, RunSpec] | None = None
        self._buffers = threading.local()

    def __repr__(self) -> str:
        """Returns the backend and the run, without a password."""
        return f"Store({self._backend.where})"

    def __enter__(self) -> "Store":
        """Returns the store, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def create(self, spec: RunSpec) -> None:
        """Creates a run without measured blocks, or adopts an existing run with its data.

        Undoes `finish`, and removes the data of a lost run with this name.

        Args:
            spec: a `RunSpec`.

        Raises:
            RunMismatchError: the existing run has another spec.
        """
        found = self._backend.find()
        if found is None:
            found = self._backend.create(StoredRun(secrets.token_hex(8), spec.to_json()), spec)
        spec.check_same(RunSpec.from_json(found.spec), self._backend.where)
        self._backend.set_finished(found.tag, False)
        self._run = found.tag, spec

    def join(self, spec: RunSpec | None = None) -> RunSpec:
        """Returns the `RunSpec` of the existing run.

        Args:
            spec: the expected spec, if the caller knows it.

        Raises:
            RunNotFoundError: there is no run.
            RunMismatchError: the run has another spec.
        """
        found = self._backend.find()
        if found is None:
            raise errors.RunNotFoundError(
                f"{self._backend.where} does not exist. Wait until a master has created it, or"
                " check the URL and the run id."
            )
        theirs = RunSpec.from_json(found.spec)
        if spec is not None:
            spec.check_same(theirs, self._backend.where)
        self._run = found.tag, theirs
        return theirs

    @property
    def spec(self) -> RunSpec:
        """The `RunSpec` of the run."""
        return self._joined()[1]

    def _joined(self) -> tuple[str, RunSpec]:
        if self._run is None:
            raise RuntimeError("The store has no run yet: call `create` or `join` first.")
        return self._run

    def claim_master(self, token: str, seconds: float) -> None:
        """Claims the run for this master for some seconds, or renews the claim.

        Args:
            token: a string that identifies this master.
            seconds: how long the claim lasts if it is not renewed.

        Raises:
            RunTakenError: a master with another token holds it.
        """
        other = self._backend.claim_master(
            self._joined()[0], _text("`token`", token), _seconds(seconds)
        )
        if other:
            raise errors.RunTakenError(
                f"{self._backend.where} has had another master for {other.held:.0f} s, whose claim"
                f" lasts {other.lasts:.1f} s more unless it renews it. If that master is dead, wait"
                " for this time; otherwise stop it, or choose another run id."
            )

    def release_master(self, token: str) -> None:
        """Ends the claim if this token holds it."""
        self._backend.release_master(self._joined()[0], token)

    def publish(self, values: Buffer, version: int, *, slot: str = MASTER) -> None:
        """Makes parameters current under a version, atomically.

        Args:
            values: bytes or a contiguous uint8 array, of the spec's `parameter_bytes`.
            version: the master's training step, in [0, 2**53).
            slot: the slot to publish in; each peer has a separate slot.

        Raises:
            ValueError: a newer version has been published, or `values` has another size.
        """
        tag, spec = self._joined()
        values = parameters.check_buffer("`values`", values, spec.parameter_bytes)
        version = blocks.check_version(version)
        current = self._check_not_older(version, slot)
        chunks = parameters.split_chunks(values)
        head = parameters.Head.of(version, map(parameters.checksum, chunks))
        self._backend.write_chunks(tag, slot, head.stamp, chunks)
        while not self._backend.set_head(tag, slot, head.after(current), current):
            current = self._check_not_older(version, slot)
            if current and current.stamp == head.stamp:
                break  # the first reply was lost with its connection

    def _check_not_older(self, version: int, slot: str) -> parameters.Head | None:
        current = self._backend.head(self._joined()[0], check_name("`slot`", slot))
        if current and version < current.version:
            raise checks.invalid(
                "`version`",
                f"at least {current.version}, which is published in slot {slot!r}",
                version,
            )
        return current

    def head(self, slot: str = MASTER) -> int | None:
        """Returns the version that is current in a slot, None if nothing was published."""
        head = self._backend.head(self._joined()[0], check_name("`slot`", slot))
        return None if head is None else head.version

    def fetch(
        self, slot: str = MASTER, *, newer_than: int = -1, out: np.ndarray | None = None
    ) -> parameters.PublishedParameters | None:
        """Returns the current parameters of a slot, complete and verified by their checksums.

        Args:
            slot: the slot to read.
            newer_than: a version; without a newer one, None is returned.
            out: a uint8 array of `parameter_bytes` to fill and return instead of a new one. After
                an error, or if None is returned, its contents are undefined.

        Raises:
            StoreError: the parameters are damaged; publishing again repairs them.
            StoreUnavailableError: ten times in a row the parameters were replaced twice while they
                were being read.
        """
        tag, spec = self._joined()
        check_name("`slot`", slot)
        if out is None:
            out = np.empty(spec.parameter_bytes, np.uint8)
        values = parameters.check_buffer("`out`", out, spec.parameter_bytes, writable=True)
        chunks = parameters.split_chunks(values)
        failed = None
        for _ in range(_ATTEMPTS):
            head = self._backend.head(tag, slot)
            if head is None or head.version <= newer_than:
                return None
            if head == failed:
                raise errors.StoreError(
                    f"Parameters {head.version} in slot {slot!r} of {self._backend.where} are"
                    " damaged or incomplete. Publish some again; on Redis the setting"
                    " `maxmemory-policy` must be `noeviction`."
                )
            check = functools.partial(_is_right, chunks, head.checksums)
            if self._backend.read_chunks(tag, slot, head.stamp, chunks, check):
                return parameters.PublishedParameters(head.version, out)
            failed = head
        raise errors.StoreUnavailableError(
            f"{_ATTEMPTS} times in turn the parameters in slot {slot!r} were replaced twice while"
            " they were being read: publish less often."
        )

    def num_blocks(self, split: str) -> int:
        """Returns the number of blocks of a split."""
        return self.spec.num_blocks(split)

    def block_range(self, split: str, block: int) -> tuple[int, int]:
        """Returns (start, stop), the examples of a block."""
        return self.spec.block_range(split, block)

    def lease(self, split: str, worker: str, seconds: float) -> int | None:
        """Leases a block for some seconds: one whose lease has expired, otherwise the next block.

        Args:
            split: the split's name.
            worker: the worker's name.
            seconds: until another worker may have the block, unless it is pushed or released first.

        Returns:
            The block, or None if all are leased.
        """
        tag, spec = self._joined()
        return self._backend.lease(
            tag, split, spec.num_blocks(split), _text("`worker`", worker), _seconds(seconds)
        )

    def release(self, split: str, block: int, worker: str) -> None:
        """Releases a leased block without a result."""
        tag, spec = self._joined()
        self._backend.release(tag, split, spec.check_block(split, block), _text("`worker`", worker))

    def block_version(self, split: str, block: int) -> int | None:
        """Returns the version that a block was measured at, None for never (reads the header)."""
        tag, spec = self._joined()
        offset = spec.check_block(split, block) * blocks.record_bytes(spec.block_size)
        return blocks.version_of(self._backend.read_header(tag, split, offset), tag)

    def push(
        self,
        split: str,
        block: int,
        values: np.ndarray,
        version: int,
        worker: str,
        loss: float,
        error: float,
    ) -> None:
        """Stores a block's gradient norms unless there are newer ones; ends the worker's lease.

        Args:
            split: the split's name.
            block: the block.
            values: floats (n,), one per example of the block; stored as float32.
            version: the version of the parameters with which they were measured.
            worker: the worker's name.
            loss: the block's mean loss.
            error: the mean classification error of its examples with labels; NaN for none.

        Raises:
            ValueError, TypeError: `values` are not n floats.
        """
        tag, spec = self._joined()
        block = spec.check_block(split, block)
        start, stop = spec.block_range(split, block)
        values = _floats(values, stop - start)
        if len(values) < spec.block_size:
            rest = np.full(spec.block_size - len(values), np.nan, "<f4")
            values = np.concatenate([values, rest])
        version = blocks.check_version(version)
        number = blocks.worker_hash(_text("`worker`", worker))
        header = blocks.header(tag, version=version, worker=number, loss=loss, error=error)
        record = BlockRecord(
            split=split,
            block=block,
            offset=blocks.record_bytes(spec.block_size) * block,
            header=header[: -blocks.TIME_BYTES],
            version=version,
            values=values.data.cast("B"),
            worker=worker,
        )
        self._backend.write_block(tag, record)

    def push_examples(self, split: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Stores the gradient norms of single examples, for any version of their block.

        Args:
            split: the split's name.
            indices: integers (k,), the examples.
            values: floats (k,); stored as float32. If an example occurs twice, its last value is
                stored.

        Raises:
            ValueError, TypeError: an index is out of range, or the shapes don't fit.
        """
        tag, spec = self._joined()
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise checks.invalid(
                "`indices`", "integers (k,)", f"{indices.dtype} {indices.shape}", kind=TypeError
            )
        count = spec.examples(split)
        if len(indices) and not 0 <= indices.min() <= indices.max() < count:
            raise checks.invalid(
                "`indices`", f"in [0, {count})", f"{indices.min()} to {indices.max()}"
            )
        values = _floats(values, len(indices))
        block, within = np.divmod(indices.astype(np.int64), spec.block_size)
        record = blocks.record_bytes(spec.block_size)
        offsets = block * record + blocks.HEADER.itemsize + 4 * within
        size = record * spec.num_blocks(split)
        self._backend.write_values(tag, split, size, offsets, values)

    def pull(self, split: str, *, out: np.ndarray | None = None) -> blocks.Blocks:
        """Returns the `Blocks` of a split: all gradient norms, who measured them, and when.

        Args:
            split: the split's name.
            out: a float32 array (num_examples,) to fill and return as the values, instead of a new
                array, whose allocation can take longer than the rest for 570,000 values.

        Raises:
            StoreError: the stored bytes are not records of this format.
        """
        tag, spec = self._joined()
        shape = (spec.examples(split),)
        if out is None:
            out = np.empty(shape, np.float32)
        elif (out.shape, out.dtype) != (shape, np.float32) or not out.flags.c_contiguous:
            raise checks.invalid("`out`", f"contiguous float32 {shape}", f"{out.dtype} {out.shape}")
        data = self._buffer(spec.num_blocks(split) * blocks.record_bytes(spec.block_size))
        now = self._backend.read_weights(tag, split, data)
        return blocks.decode(data, tag, out, spec.block_size, now)

    def _buffer(self, size: int) -> np.ndarray:
        """Returns a uint8 array for this thread, which its next call may return again."""
        buffers: dict[Any, np.ndarray] = self._buffers.__dict__
        if size not in buffers:
            buffers[size] = np.empty(size, np.uint8)
        return buffers[size]

    def heartbeat(self, role: str, name: str) -> None:
        """Records that the worker or peer `name` is alive in this role."""
        tag = self._joined()[0]
        self._backend.heartbeat(tag, check_name("`role`", role), _text("`name`", name))

    def alive(self, role: str, within: float) -> list[str]:
        """Returns the sorted names that were alive in a role in the last `within` seconds."""
        tag = self._joined()[0]
        return sorted(self._backend.alive(tag, check_name("`role`", role), _seconds(within)))

    def finish(self) -> None:
        """Marks the run as finished, so that workers end; `create` undoes it."""
        self._backend.set_finished(self._joined()[0], True)

    def finished(self) -> bool:
        """Whether the run is finished."""
        return self._backend.is_finished(self._joined()[0])

    def time(self) -> float:
        """Returns the store's time in seconds, the only clock that all processes of a run share."""
        return self._backend.time()

    def delete(self) -> None:
        """Removes all data of the run."""
        self._backend.delete()
        self._run = None

    def close(self) -> None:
        """Closes connections and files; the run stays in the store."""
        self._backend.close()


def _is_right(chunks: Sequence[np.ndarray], checksums: Sequence[int], number: int) -> bool:
    # Checked at once, while the chunk is in the processor's cache.
    return parameters.checksum(chunks[number]) == checksums[number]


def _seconds(value: float) -> float:
    if not value > 0:
        raise checks.invalid("A number of seconds", "above 0", value)
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise checks.invalid(name, "a name", repr(value), kind=TypeError)
    return value


def _floats(values: np.ndarray, count: int) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind != "f":
        raise checks.invalid("`values`", "floats", values.dtype, kind=TypeError)
    if values.shape != (count,):
        raise checks.invalid("`values`", f"of shape ({count},)", values.shape)
    return np.ascontiguousarray(values, "<f4")
