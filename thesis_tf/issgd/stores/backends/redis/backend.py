"""`redis://`: a run on a Redis server, for processes on any machines.

The keys of run R, with the incarnation's 16 digits T, which keep what a lost run left apart:

    {R}                        T and the spec
    {R}:T:w:SPLIT              the records of all blocks, one string
    {R}:T:lease:SPLIT          sorted set: leased block -> when the lease ends
    {R}:T:owner:SPLIT          hash: leased block -> worker; "cursor" -> the next block
    {R}:T:p:SLOT:STAMP:I       chunk I of parameters, never changed
    {R}:T:head:SLOT            what is current in a slot
    {R}:T:claim, finished, alive:ROLE

The braces put all of them on one node of a cluster, so that scripts can use several.
"""

import numpy as np

from thesis_tf.issgd.stores import blocks, errors
from thesis_tf.issgd.stores.backends.base import Backend, Claim, Run
from thesis_tf.issgd.stores.backends.local import DAY
from thesis_tf.issgd.stores.backends.redis import scripts
from thesis_tf.issgd.stores.backends.redis.client import LOST, Client
from thesis_tf.issgd.stores.backends.redis.wire import ReplyError
from thesis_tf.issgd.stores.parameters import Head
from thesis_tf.issgd.stores.run_spec import RunSpec

_DIGITS = 16
# Chunks that a killed publisher never confirmed are gone after so many seconds.
UNCONFIRMED = 600
# Chunks asked for ahead. Asked for all at once, the server would copy all of them into its output
# buffers before it sends the first, and 76 MB would take 2x as long.
_AHEAD = 2


class RedisBackend(Backend):
    """A run on a Redis server or cluster; see the module for its keys."""

    def __init__(self, url, shown, run_id, cluster=False):
        self._client = Client(url, shown, cluster)
        self.where = f"Run {run_id!r} of {shown}"
        self._root = f"{{{run_id}}}"

    def _key(self, tag, *parts):
        return ":".join((self._root, tag, *map(str, parts)))

    def _script(self, script, tag, keys, *arguments):
        return self._client.script(
            script, [self._root, *(self._key(tag, *key) for key in keys)], [tag, *arguments]
        )

    def _read(self, tag, *commands):
        """Returns the replies to commands that read, if the run is there when they are done."""

        def work(wire):
            wire.send(*commands, ("GETRANGE", self._root, 0, _DIGITS - 1))
            *replies, found = [wire.reply() for _ in range(len(commands) + 1)]
            self._check(tag, found)
            return replies

        return self._client.run(work)

    @staticmethod
    def _check(tag, found):
        if found != tag.encode():
            raise ReplyError(f"{LOST} no such run")

    def find(self):
        """See `Backend`."""
        return self._look()[1]

    def _look(self):
        """Returns the value of the run's key, and the `Run` if it has all its weights."""
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
    def _parse(value):
        try:
            text = value.decode()
            int(text[:_DIGITS], 16)
        except ValueError:
            raise errors.StoreError(
                "The key of the run holds something else. Choose another run id."
            ) from None
        return Run(text[:_DIGITS], text[_DIGITS:]), RunSpec.from_json(text[_DIGITS:])

    def create(self, run, spec):
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

    def _here(self, *command):
        """Returns the reply to a command without a key, from the node that has the run's keys."""
        return self._client.call(("EXISTS", self._root), command)[1]

    def _remove(self, which):
        """Removes keys of all incarnations, but not the run's own."""
        cursor = b"0"
        while True:
            cursor, keys = self._here("SCAN", cursor, "MATCH", f"{self._root}:*", "COUNT", 1000)
            if found := list(filter(which, keys)):
                self._client.call(("UNLINK", *found))
            if cursor == b"0":
                return

    def set_finished(self, tag, finished):
        """See `Backend`."""
        self._script(scripts.SET_FINISHED, tag, [("finished",)], int(finished))

    def is_finished(self, tag):
        """See `Backend`."""
        return self._read(tag, ("EXISTS", self._key(tag, "finished"))) == [1]

    def claim_master(self, tag, token, seconds):
        """See `Backend`."""
        other = self._script(
            scripts.CLAIM_MASTER, tag, [("claim",)], token, max(1, int(1000 * seconds))
        )
        return Claim(float(other[0]), other[1] / 1000) if other else None

    def release_master(self, tag, token):
        """See `Backend`."""
        self._script(scripts.RELEASE_MASTER, tag, [("claim",)], token)

    def head(self, tag, slot):
        """See `Backend`."""
        text = self._read(tag, ("GET", self._key(tag, "head", slot)))[0]
        return None if text is None else Head.from_json(text)

    def _chunk_keys(self, tag, slot, stamp, count):
        return [self._key(tag, "p", slot, stamp, number) for number in range(count)]

    def write_chunks(self, tag, slot, stamp, chunks):
        """See `Backend`."""
        keys = self._chunk_keys(tag, slot, stamp, len(chunks))

        def work(wire):
            # The server's answers are short enough to wait until all was sent.
            for key, chunk in zip(keys, chunks, strict=True):
                wire.send(("SET", key, chunk, "EX", UNCONFIRMED))
            for _ in keys:
                wire.reply()

        self._client.run(work)

    def set_head(self, tag, slot, head, current):
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

    def read_chunks(self, tag, slot, stamp, chunks, check):
        """See `Backend`."""
        keys = self._chunk_keys(tag, slot, stamp, len(chunks))

        def work(wire):
            wire.send(*(("GET", key) for key in keys[:_AHEAD]))
            good = True
            for number, chunk in enumerate(chunks):
                there = wire.reply_into(memoryview(chunk))
                if number + _AHEAD < len(keys):
                    wire.send(("GET", keys[number + _AHEAD]))
                good = there and check(number) and good
            return good

        return self._client.run(work)

    def lease(self, tag, split, count, worker, seconds):
        """See `Backend`."""
        return self._script(
            scripts.LEASE, tag, [("lease", split), ("owner", split)], count, worker, seconds
        )

    def release(self, tag, split, block, worker):
        """See `Backend`."""
        self._script(scripts.RELEASE, tag, [("lease", split), ("owner", split)], block, worker)

    def read_header(self, tag, split, offset):
        """See `Backend`."""
        key, last = self._key(tag, "w", split), offset + blocks.HEADER.itemsize - 1
        header = self._read(tag, ("GETRANGE", key, offset, last))[0]
        if len(header) != blocks.HEADER.itemsize:
            raise self._client.translate(ReplyError(f"{LOST} no such weights"))
        return header

    def write_block(self, tag, record):
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

    def write_values(self, tag, split, size, offsets, values):
        """See `Backend`."""
        self._script(
            scripts.WRITE_VALUES,
            tag,
            [("w", split)],
            size,
            memoryview(values),
            *offsets.tolist(),
        )

    def read_weights(self, tag, split, data):
        """See `Backend`."""

        def work(wire):
            wire.send(
                ("GET", self._key(tag, "w", split)),
                ("GETRANGE", self._root, 0, _DIGITS - 1),
                ("TIME",),
            )
            there = wire.reply_into(memoryview(data))
            self._check(tag, wire.reply() if there else b"")
            return _seconds(wire.reply())

        return self._client.run(work)

    def heartbeat(self, tag, role, name):
        """See `Backend`."""
        self._script(scripts.HEARTBEAT, tag, [("alive", role)], name, DAY)

    def alive(self, tag, role, within):
        """See `Backend`."""
        names = self._script(scripts.ALIVE, tag, [("alive", role)], within)
        return [name.decode() for name in names]

    def time(self):
        """See `Backend`."""
        return _seconds(self._here("TIME"))

    def delete(self):
        """See `Backend`."""
        self._client.call(("UNLINK", self._root))
        self._remove(lambda key: True)

    def close(self):
        """See `Backend`."""
        self._client.close()


def _seconds(time):
    return int(time[0]) + int(time[1]) / 1e6
