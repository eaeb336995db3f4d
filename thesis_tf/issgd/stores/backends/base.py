"""The interface of a storage backend, which keeps the data of one run."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from thesis_tf.issgd.stores.parameters import Head
from thesis_tf.issgd.stores.run_spec import RunSpec

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Offsets: TypeAlias = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run as a backend holds it: 16 hexadecimal digits that identify it, and its spec as JSON."""

    tag: str
    spec: str


@dataclasses.dataclass(frozen=True)
class MasterClaim:
    """Another master's claim: how long it has been held, and how long it will last, in seconds."""

    held: float
    lasts: float


@dataclasses.dataclass(frozen=True)
class BlockRecord:
    """The gradient norms of a block, as a worker pushes them.

    Attributes:
        split: the split's name.
        block: the block.
        offset: the byte at which the block's record begins.
        header: the bytes of the header up to the time, which the backend appends.
        version: the header's version.
        values: the bytes of the gradient norms.
        worker: the worker's name.
    """

    split: str
    block: int
    offset: int
    header: bytes
    version: int
    values: memoryview
    worker: str


class Backend(abc.ABC):
    """Holds the data of one run. Every method is atomic and may be called from several threads.

    `tag` identifies the run; methods that take it raise `RunNotFoundError` if the existing run has
    another. All times are those of the backend's clock, in seconds.

    Attributes:
        where: the backend and the run, for messages, without passwords.
    """

    where: str

    @abc.abstractmethod
    def find(self) -> StoredRun | None:
        """Returns the existing `StoredRun`, None if there is none or it is incomplete."""

    @abc.abstractmethod
    def create(self, run: StoredRun, spec: RunSpec) -> StoredRun:
        """Creates a run unless one exists; returns the existing one.

        Removes the data of a lost run. In a new run, no block has been measured.

        Args:
            run: the run to create.
            spec: its spec.
        """

    @abc.abstractmethod
    def set_finished(self, tag: str, finished: bool) -> None:
        """Records whether the run is finished."""

    @abc.abstractmethod
    def is_finished(self, tag: str) -> bool:
        """Returns whether the run is finished."""

    @abc.abstractmethod
    def claim_master(self, tag: str, token: str, seconds: float) -> MasterClaim | None:
        """Takes or renews the claim and returns None, or returns another token's `MasterClaim`."""

    @abc.abstractmethod
    def release_master(self, tag: str, token: str) -> None:
        """Ends the claim if this token holds it."""

    @abc.abstractmethod
    def head(self, tag: str, slot: str) -> Head | None:
        """Returns the `Head` of a slot, None if nothing was published."""

    @abc.abstractmethod
    def write_chunks(self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes]) -> None:
        """Stores chunks, which `set_head` then confirms. Unconfirmed chunks are removed later.

        Args:
            tag: identifies the run.
            slot: the slot's name.
            stamp: the stamp of the head that will refer to them.
            chunks: uint8 arrays.
        """

    @abc.abstractmethod
    def set_head(self, tag: str, slot: str, head: Head, current: Head | None) -> bool:
        """Makes the chunks of `head` current if `current` still is; returns whether it was.

        The parameters of `current` are kept for processes that are reading them; older ones are
        removed.

        Raises:
            StoreError: the chunks have been removed.
        """

    @abc.abstractmethod
    def read_chunks(
        self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes], check: Callable[[int], bool]
    ) -> bool:
        """Fills arrays with the chunks of a stamp.

        Args:
            tag: identifies the run.
            slot: the slot's name.
            stamp: the head's stamp.
            chunks: uint8 arrays to fill.
            check: called with the number of each chunk as soon as it is filled; returns whether it
                is correct.

        Returns:
            Whether all chunks were found and correct.
        """

    @abc.abstractmethod
    def lease(self, tag: str, split: str, count: int, worker: str, seconds: float) -> int | None:
        """Leases one of `count` blocks, an expired one or the next; returns it, or None."""

    @abc.abstractmethod
    def release(self, tag: str, split: str, block: int, worker: str) -> None:
        """Ends a lease if this worker holds it."""

    @abc.abstractmethod
    def read_header(self, tag: str, split: str, offset: int) -> bytes:
        """Returns the bytes of the header at `offset`."""

    @abc.abstractmethod
    def write_block(self, tag: str, record: BlockRecord) -> None:
        """Writes a record unless the stored one is newer, and releases the worker's lease."""

    @abc.abstractmethod
    def write_values(
        self, tag: str, split: str, size: int, offsets: Offsets, values: Floats
    ) -> None:
        """Writes single float32 values at byte offsets (int64) of a split of `size` bytes."""

    @abc.abstractmethod
    def read_weights(self, tag: str, split: str, data: Bytes) -> float:
        """Fills a uint8 array with all records of a split; returns the time."""

    @abc.abstractmethod
    def heartbeat(self, tag: str, role: str, name: str) -> None:
        """Records that `name` is alive in a role."""

    @abc.abstractmethod
    def alive(self, tag: str, role: str, within: float) -> list[str]:
        """Returns the names that were alive in the last `within` seconds."""

    @abc.abstractmethod
    def time(self) -> float:
        """Returns the backend's time in seconds."""

    @abc.abstractmethod
    def delete(self) -> None:
        """Removes all data of the run, for any tag."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes connections and files."""
