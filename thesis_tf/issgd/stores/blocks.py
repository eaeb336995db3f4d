"""The layout of a split's gradient norms: one byte string of records, one per block.

A record is a header of 48 bytes and `block_size` float32 values, all little-endian; the values
after the split's last example are NaN. A new run has headers with version -1 and NaN everywhere, so
a value that was never measured is always NaN.
"""

import dataclasses
import hashlib

import numpy as np

from thesis_tf._core import checks
from thesis_tf.issgd.stores import errors

MAGIC = int.from_bytes(b"ISSGDv01", "little")
# The first two fields are the same for the whole run, followed by the version; Redis' script relies
# on this order. The time is last, so that the backend only has to append it.
HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("run", "<u8"),
        ("version", "<i8"),
        ("worker", "<u8"),
        ("loss", "<f4"),
        ("error", "<f4"),
        ("time", "<f8"),
    ]
)
TIME_BYTES = 8
NEVER = -1
# Redis' scripts compute in float64.
MOST_VERSION = 2**53


@dataclasses.dataclass(frozen=True)
class Blocks:
    """All gradient norms of a split.

    Attributes:
        values: float32 (num_examples,), the gradient norms, NaN where never measured.
        versions: int64 (num_blocks,), of the parameters with which each block was measured; -1 for
            never.
        times: float64 (num_blocks,), when each block was pushed, by the store's clock; NaN: never.
        losses: float32 (num_blocks,), the mean loss of each block at this version; NaN for never.
        errors: float32 (num_blocks,), the mean classification error; NaN for never.
        workers: uint64 (num_blocks,), `worker_hash` of the worker; 0 for none.
        now: the store's time when this was read.
    """

    values: np.ndarray
    versions: np.ndarray
    times: np.ndarray
    losses: np.ndarray
    errors: np.ndarray
    workers: np.ndarray
    now: float


def worker_hash(name: str) -> int:
    """Returns the 64-bit hash of a worker's name that headers hold."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def check_version(version: int) -> int:
    """Returns a version as an int; raises ValueError if it is out of range."""
    if not 0 <= version < MOST_VERSION:
        raise checks.invalid("`version`", "in [0, 2**53)", version)
    return int(version)


def record_bytes(block_size: int) -> int:
    """Returns the bytes of a record."""
    return HEADER.itemsize + 4 * block_size


def header(
    tag: str,
    *,
    version: int = NEVER,
    worker: int = 0,
    loss: float = np.nan,
    error: float = np.nan,
    time: float = np.nan,
) -> bytes:
    """Returns the bytes of a header; `tag` identifies the run."""
    fields = (MAGIC, int(tag, 16), version, worker, loss, error, time)
    return np.array(fields, HEADER).tobytes()


def blank(tag: str, block_size: int, count: int) -> bytes:
    """Returns the bytes of `count` records that were never measured."""
    return (header(tag) + np.full(block_size, np.nan, "<f4").tobytes()) * count


def version_of(data: bytes, tag: str) -> int | None:
    """Returns the version in a header's bytes, None if the block was never measured in this run."""
    (found,) = np.frombuffer(data, HEADER)
    _check_magic(found)
    version = int(found["version"])
    return None if found["run"] != int(tag, 16) or version == NEVER else version


def decode(data: np.ndarray, tag: str, values: np.ndarray, block_size: int, now: float) -> Blocks:
    """Returns `Blocks` of a split's records.

    Args:
        data: the bytes of all records.
        tag: identifies the run.
        values: float32 (num_examples,), filled and returned as the blocks' values.
        block_size: examples per block.
        now: the store's time.

    Raises:
        StoreError: a record is neither empty nor of this format.
    """
    records = np.frombuffer(data, np.dtype([("header", HEADER), ("values", "<f4", (block_size,))]))
    found = records["header"]
    _check_magic(found)
    whole = len(values) // block_size
    np.copyto(values[: whole * block_size].reshape(whole, block_size), records["values"][:whole])
    rest = values[whole * block_size :]
    if len(rest):
        rest[:] = records["values"][-1][: len(rest)]
    foreign = found["run"] != int(tag, 16)
    if foreign.any():
        found = np.where(foreign, np.frombuffer(header(tag), HEADER), found)
        for block in np.flatnonzero(foreign):
            values[block * block_size : (block + 1) * block_size] = np.nan
    # Copied even where a single block is contiguous: the next pull overwrites the bytes.
    columns = {name: found[name].copy() for name in HEADER.names or ()}
    return Blocks(
        values=values,
        versions=columns["version"],
        times=columns["time"],
        losses=columns["loss"],
        errors=columns["error"],
        workers=columns["worker"],
        now=now,
    )


def _check_magic(found: np.ndarray) -> None:
    magic = found["magic"]
    if not np.all((magic == MAGIC) | (magic == 0)):
        raise errors.StoreError(
            "The store's weights are not records of this format: another program wrote to these"
            " keys, or the storage is damaged. Delete the run or choose another run id."
        )
