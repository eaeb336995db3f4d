"""`redis://`: a run on a Redis server, for processes on any machines.

The keys of run R. T are the 16 digits of its incarnation, which separate it from a lost run:

    {R}                        T and the spec
    {R}:T:w:SPLIT              the records of all blocks, one string
    {R}:T:lease:SPLIT          sorted set: leased block -> when the lease ends
    {R}:T:owner:SPLIT          hash: leased block -> worker; "cursor" -> the next block
    {R}:T:p:SLOT:STAMP:I       chunk I of parameters, never changed
    {R}:T:head:SLOT            the current head of a slot
    {R}:T:claim, finished, alive:ROLE

The braces put all of them on one node of a cluster, so that scripts can use several.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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
from thesis_tf.issgd.stores.backends.redis import scripts
from thesis_tf.issgd.stores.backends.redis.bulk import BulkConnection
from thesis_tf.issgd.stores.backends.redis.client import Client, Command
from thesis_tf.issgd.stores.backends.redis.scripts import Script
from thesis_tf.issgd.stores.backends.without_server import DAY
from thesis_tf.issgd.stores.parameters import Head
from thesis_tf.issgd.stores.run_spec import RunSpec

_DIGITS = 16
# Seconds after which unconfirmed chunks of a killed publisher expire.
UNCONFIRMED = 600
# The number of chunks that are requested in advance. If all were requested at once, the server
# would copy them to its output buffers before it sends the first, and 76 MB would take 2x as long.
_AHEAD = 2


class RedisBackend(Backend):
    """A run on a Redis server or cluster; see the module for its keys."""

    def __init__(self, url: str, shown: str, run_id: str, *, cluster: bool = False) -> None:
        self._client = Client(url, shown, cluster=cluster)
        self.where = f"Run {run_id!r} of {shown}"
        self._root = f"{{{run_id}}}"

    def _key(self, tag: str, *parts: object) -> str:
        return ":".join((self._root, tag, *map(str, parts)))

    def _script(
        self, script: Script, tag: str, keys: Sequence[tuple[object, ...]], *arguments: object
    ) -> Any:
        return self._client.script(
            script, [self._root, *(self._key(tag, *key) for key in keys)], [tag, *arguments]
        )

    def _read(self, tag: str, *commands: Command) -> list[Any]:
        """Returns the replies to commands that read; raises if the run doesn't exist afterward."""
        *replies, found = self._client.call(*commands, ("GETRANGE", self._root, 0, _DIGITS - 1))
        if found != tag.encode():
            raise self._client.lost()
        return replies

    def find(self) -> StoredRun | None:
        """See `Backend`."""
        return self._look()[1]

    def _look(self) -> tuple[bytes, StoredRun | None]:
        """Returns the value of the run's key, and the `StoredRun` if it has all its weights."""
        value = self._client.call(("GET", self._root))[0]
        if value is None:
            return b"", None
        run, spec = self._parse(value)
        sizes = self._client.call(
            *(("STRLEN", self._key(run.tag, "w", split)) for split, _ in spec.splits)
        )
        record = blocks.record_bytes(spec.block_size)
        whole = [record * spec.num_blocks(split) for split, _ in spec.splits]
        return value, run if sizes == whole else None

    @staticmethod
    def _parse(value: bytes) -> tuple[StoredRun, RunSpec]:
        try:
            text = value.decode()
            int(text[:_DIGITS], 16)
        except ValueError:
            raise errors.StoreError(
                "The key of the run holds something else. Choose another run id."
            ) from None
        return StoredRun(text[:_DIGITS], text[_DIGITS:]), RunSpec.from_json(text[_DIGITS:])

    def create(self, run: StoredRun, spec: RunSpec) -> StoredRun:
        """See `Backend`."""
        lost, found = self._look()
        if found:
            return found
        value = self._client.script(
            scripts.CREATE,
            [self._root, *(self._key(run.tag, "w", split) for split, _ in spec.splits)],
            [
                run.tag,
                run.spec,
                lost,
                blocks.header(run.tag),
                np.full(1, np.nan, "<f4").tobytes(),
                spec.block_size,
                *(spec.num_blocks(split) for split, _ in spec.splits),
            ],
        )
        there, _ = self._parse(value)
        self._remove(lambda key: not key.startswith(self._key(there.tag, "").encode()))
        return there

    def _here(self, *command: object) -> Any:
        """Returns the reply to a command without a key, from the node that has the run's keys."""
        return self._client.call(("EXISTS", self._root), command)[1]

    def _remove(self, which: Callable[[bytes], bool]) -> None:
        """Removes keys of all incarnations, but not the key of the run."""
        cursor = b"0"
        while True:
            cursor, keys = self._here("SCAN", cursor, "MATCH", f"{self._root}:*", "COUNT", 1000)
            if found := list(filter(which, keys)):
                self._client.call(("UNLINK", *found))
            if cursor == b"0":
                return

    def set_finished(self, tag: str, finished: bool) -> None:
        """See `Backend`."""
        self._script(scripts.SET_FINISHED, tag, [("finished",)], int(finished))

    def is_finished(self, tag: str) -> bool:
        """See `Backend`."""
        return self._read(tag, ("EXISTS", self._key(tag, "finished"))) == [1]

    def claim_master(self, tag: str, token: str, seconds: float) -> MasterClaim | None:
        """See `Backend`."""
        other = self._script(
            scripts.CLAIM_MASTER, tag, [("claim",)], token, max(1, int(1000 * seconds))
        )
        return MasterClaim(float(other[0]), other[1] / 1000) if other else None

    def release_master(self, tag: str, token: str) -> None:
        """See `Backend`."""
        self._script(scripts.RELEASE_MASTER, tag, [("claim",)], token)

    def head(self, tag: str, slot: str) -> Head | None:
        """See `Backend`."""
        text = self._read(tag, ("GET", self._key(tag, "head", slot)))[0]
        return None if text is None else Head.from_json(text)

    def _chunk_keys(self, tag: str, slot: str, stamp: str, count: int) -> list[str]:
        return [self._key(tag, "p", slot, stamp, number) for number in range(count)]

    def write_chunks(self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes]) -> None:
        """See `Backend`."""
        keys = self._chunk_keys(tag, slot, stamp, len(chunks))
        self._client.write(
            ("SET", key, chunk.data, "EX", UNCONFIRMED)
            for key, chunk in zip(keys, chunks, strict=True)
        )

    def set_head(self, tag: str, slot: str, head: Head, current: Head | None) -> bool:
        """See `Backend`."""
        count = len(head.checksums)
        keys = self._chunk_keys(tag, slot, head.stamp, count)
        if current and current.previous:
            keys += self._chunk_keys(tag, slot, current.previous, count)
        return bool(
            self._client.script(
                scripts.SET_HEAD,
                [self._root, self._key(tag, "head", slot), *keys],
                [tag, head.to_json(), current.to_json() if current else "", count],
            )
        )

    def read_chunks(
        self, tag: str, slot: str, stamp: str, chunks: Sequence[Bytes], check: Callable[[int], bool]
    ) -> bool:
        """See `Backend`."""
        keys = self._chunk_keys(tag, slot, stamp, len(chunks))

        def work(connection: BulkConnection) -> bool:
            connection.ask(*keys[:_AHEAD])
            good = True
            for number, chunk in enumerate(chunks):
                there = connection.receive_into(chunk.data)
                connection.ask(*keys[number + _AHEAD : number + _AHEAD + 1])
                good = there and check(number) and good
            return good

        return self._client.bulk(work)

    def lease(self, tag: str, split: str, count: int, worker: str, seconds: float) -> int | None:
        """See `Backend`."""
        return self._script(
            scripts.LEASE, tag, [("lease", split), ("owner", split)], count, worker, seconds
        )

    def release(self, tag: str, split: str, block: int, worker: str) -> None:
        """See `Backend`."""
        self._script(scripts.RELEASE, tag, [("lease", split), ("owner", split)], block, worker)

    def read_header(self, tag: str, split: str, offset: int) -> bytes:
        """See `Backend`."""
        key, last = self._key(tag, "w", split), offset + blocks.HEADER.itemsize - 1
        header = self._read(tag, ("GETRANGE", key, offset, last))[0]
        if len(header) != blocks.HEADER.itemsize:
            raise self._client.lost()
        return header

    def write_block(self, tag: str, record: BlockRecord) -> None:
        """See `Backend`."""
        self._script(
            scripts.WRITE_BLOCK,
            tag,
            [(kind, record.split) for kind in ("w", "lease", "owner")],
            record.offset,
            record.header,
            record.version,
            record.values,
            record.block,
            record.worker,
        )

    def write_values(
        self, tag: str, split: str, size: int, offsets: Offsets, values: Floats
    ) -> None:
        """See `Backend`."""
        self._script(
            scripts.WRITE_VALUES,
            tag,
            [("w", split)],
            size,
            values.data.cast("B"),
            *offsets.tolist(),
        )

    def read_weights(self, tag: str, split: str, data: Bytes) -> float:
        """See `Backend`."""
        key, view = self._key(tag, "w", split), data.data

        def work(connection: BulkConnection) -> bool:
            connection.ask(key)
            return connection.receive_into(view)

        if not self._client.bulk(work):
            raise self._client.lost()
        return _seconds(self._read(tag, ("TIME",))[0])

    def heartbeat(self, tag: str, role: str, name: str) -> None:
        """See `Backend`."""
        self._script(scripts.HEARTBEAT, tag, [("alive", role)], name, DAY)

    def alive(self, tag: str, role: str, within: float) -> list[str]:
        """See `Backend`."""
        names = self._script(scripts.ALIVE, tag, [("alive", role)], within)
        return [name.decode() for name in names]

    def time(self) -> float:
        """See `Backend`."""
        return _seconds(self._here("TIME"))

    def delete(self) -> None:
        """See `Backend`."""
        self._client.call(("UNLINK", self._root))
        self._remove(lambda key: True)

    def close(self) -> None:
        """See `Backend`."""
        self._client.close()


def _seconds(time: Sequence[bytes]) -> float:
    return int(time[0]) + int(time[1]) / 1e6
