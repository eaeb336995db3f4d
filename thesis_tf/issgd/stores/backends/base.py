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
class Run:
    """A run as a backend has it: 16 hexadecimal digits that no other run has, and its spec."""

    tag: str
    spec: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """Another master's claim: how long it has been held and will last from now, in seconds."""

    held: float
    lasts: float


@dataclasses.dataclass(frozen=True)
class Record:
    """What a worker pushes.

    Attributes:
        split: the split's name.
        block: the block.
        offset: where its record begins.
        header: the bytes of the header up to the time, which the place appends.
        version: the header's version.
        values: the bytes of the values.
        worker: the name of the worker.
    """

    split: str
    block: int
    offset: int
    header: bytes
    version: int
    values: memoryview
    worker: str


class Backend(abc.ABC):
    """One run in one place. Every method is atomic and may be called from several threads.

    Methods that take `tag`, the incarnation of the run, raise `RunNotFoundError` if that is not
    the run which is there. All times are the place's own, in seconds.

    Attributes:
        where: the place and the run for messages, without passwords.
    """

    where: str

    @abc.abstractmethod
    def find(self) -> Run | None:
        """Returns the `Run` that is there, None if there is none or not the whole of it."""

    @abc.abstractmethod
    def create(self, run: Run, spec: RunSpec) -> Run:
        """Makes a run unless one is there; returns the one that is there then.

        What a lost run left behind is removed. All blocks are blank.

        Args:
            run: a `Run`.
            spec: its `RunSpec`.
        """

    @abc.abstractmethod
    def set_finished(self, tag: str, finished: bool) -> None:
        """Says whether the run is over."""

    @abc.abstractmethod
    def is_finished(self, tag: str) -> bool:
        """Whether the run is over."""

    @abc.abstractmethod
    def claim_master(self, tag: str, token: str, seconds: float) -> Claim | None:
        """Takes or renews the claim; returns None, or the `Claim` of another token."""

    @abc.abstractmethod
    def release_master(self, tag: str, token: str) -> None:
        """Ends the claim, if it is this token's."""

    @abc.abstractmethod
    def head(self, tag: str, slot: str) -> Head | None:
        """Returns the `Head` of a slot, None if nothing was published."""

    @abc.abstractmethod
    def write_chunks(self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes]) -> None:
        """Stores chunks, which `set_head` then confirms. If it never does, they go by themselves.

        Args:
            tag: the run's.
            slot: the slot's name.
            stamp: the head's.
            chunks: a list of uint8 arrays.
        """

    @abc.abstractmethod
    def set_head(self, tag: str, slot: str, head: Head, current: Head | None) -> bool:
        """Makes chunks current if `current` still is; returns whether it was.

        The parameters of `current` stay for those who are reading them; older ones are removed.

        Raises:
            StoreError: the chunks are gone.
        """

    @abc.abstractmethod
    def read_chunks(
        self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes], check: Callable[[int], bool]
    ) -> bool:
        """Fills arrays with the chunks of a stamp.

        Args:
            tag: the run's.
            slot: the slot's name.
            stamp: the head's.
            chunks: a list of uint8 arrays.
            check: called with the number of a chunk as soon as it is there, says if it is right.

        Returns:
            Whether all chunks were there and right.
        """

    @abc.abstractmethod
    def lease(self, tag: str, split: str, count: int, worker: str, seconds: float) -> int | None:
        """Leases one of `count` blocks: an expired one, else the next; returns it or None."""

    @abc.abstractmethod
    def release(self, tag: str, split: str, block: int, worker: str) -> None:
        """Ends a lease, if it is this worker's."""

    @abc.abstractmethod
    def read_header(self, tag: str, split: str, offset: int) -> bytes:
        """Returns the bytes of the header at `offset`."""

    @abc.abstractmethod
    def write_block(self, tag: str, record: Record) -> None:
        """Writes a `Record`, unless that there has a newer version, and ends the worker's lease."""

    @abc.abstractmethod
    def write_values(
        self, tag: str, split: str, size: int, offsets: Offsets, values: Floats
    ) -> None:
        """Writes single float32 values at byte offsets (int64) of a split of `size` bytes."""

    @abc.abstractmethod
    def read_weights(self, tag: str, split: str, data: Bytes) -> float:
        """Fills a uint8 array with all of a split's records; returns the time."""

    @abc.abstractmethod
    def heartbeat(self, tag: str, role: str, name: str) -> None:
        """Notes that `name` is alive."""

    @abc.abstractmethod
    def alive(self, tag: str, role: str, within: float) -> list[str]:
        """Returns the names that were alive in the last `within` seconds."""

    @abc.abstractmethod
    def time(self) -> float:
        """The place's clock."""

    @abc.abstractmethod
    def delete(self) -> None:
        """Removes everything of the run, whichever incarnation."""

    @abc.abstractmethod
    def close(self) -> None:
        """Gives back connections and files."""
