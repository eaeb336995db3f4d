"""What a place must do so that `Store` can be built on it."""

import abc
import dataclasses


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
    def find(self):
        """Returns the `Run` that is there, None if there is none or not the whole of it."""

    @abc.abstractmethod
    def create(self, run, spec):
        """Makes a run unless one is there; returns the one that is there then.

        What a lost run left behind is removed. All blocks are blank.

        Args:
            run: a `Run`.
            spec: its `RunSpec`.
        """

    @abc.abstractmethod
    def set_finished(self, tag, finished):
        """Says whether the run is over."""

    @abc.abstractmethod
    def is_finished(self, tag):
        """Whether the run is over."""

    @abc.abstractmethod
    def claim_master(self, tag, token, seconds):
        """Takes or renews the claim; returns None, or the `Claim` of another token."""

    @abc.abstractmethod
    def release_master(self, tag, token):
        """Ends the claim, if it is this token's."""

    @abc.abstractmethod
    def head(self, tag, slot):
        """Returns the `Head` of a slot, None if nothing was published."""

    @abc.abstractmethod
    def write_chunks(self, tag, slot, stamp, chunks):
        """Stores chunks, which `set_head` then confirms. If it never does, they go by themselves.

        Args:
            tag: the run's.
            slot: the slot's name.
            stamp: the head's.
            chunks: a list of uint8 arrays.
        """

    @abc.abstractmethod
    def set_head(self, tag, slot, head, current):
        """Makes chunks current if `current` still is; returns whether it was.

        The parameters of `current` stay for those who are reading them; older ones are removed.

        Raises:
            StoreError: the chunks are gone.
        """

    @abc.abstractmethod
    def read_chunks(self, tag, slot, stamp, chunks, check):
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
    def lease(self, tag, split, count, worker, seconds):
        """Leases one of `count` blocks: an expired one, else the next; returns it or None."""

    @abc.abstractmethod
    def release(self, tag, split, block, worker):
        """Ends a lease, if it is this worker's."""

    @abc.abstractmethod
    def read_header(self, tag, split, offset):
        """Returns the bytes of the header at `offset`."""

    @abc.abstractmethod
    def write_block(self, tag, record):
        """Writes a `Record`, unless that there has a newer version, and ends the worker's lease."""

    @abc.abstractmethod
    def write_values(self, tag, split, size, offsets, values):
        """Writes single float32 values at byte offsets (int64) of a split of `size` bytes."""

    @abc.abstractmethod
    def read_weights(self, tag, split, data):
        """Fills a uint8 array with all of a split's records; returns the time."""

    @abc.abstractmethod
    def heartbeat(self, tag, role, name):
        """Notes that `name` is alive."""

    @abc.abstractmethod
    def alive(self, tag, role, within):
        """Returns the names that were alive in the last `within` seconds."""

    @abc.abstractmethod
    def time(self):
        """The place's clock."""

    @abc.abstractmethod
    def delete(self):
        """Removes everything of the run, whichever incarnation."""

    @abc.abstractmethod
    def close(self):
        """Gives back connections and files."""
