"""Speed of the feature store relative to plain files: warm and cold reads, checks, writes.

Writes a store of 15,000 float32 features in 17 columns, then measures alternately in each round:

    warm blocks     FeatureStore.blocks over all columns, from the page cache into memory
    warm read_into  the same into arrays that the caller reuses
    warm plain      one thread that reads the same bytes, file by file, with 16 MiB `readinto`s
    cold blocks     as above, after the files were dropped from the page cache; an eighth of the
    cold plain      store at a time, in random order, since the speed of a shared disk varies
                    within seconds
    verify          opening the store with verify=True
    write           ShardWriter, flushed to disk every 512 examples
    write plain     the same bytes to plain files, with fsync at the end

and prints medians over the rounds of GB/s, of examples/s, and of the ratio to plain files in the
same round.

The page cache is dropped file by file (posix_fadvise), which doesn't affect other files, or with
`--drop machine` by /proc/sys/vm/drop_caches if that is permitted.

    python -m benchmarks.feature_store --folder /tmp/bench --gigabytes 3
"""

import argparse
import os
import pathlib
import random
import shutil
import statistics
import tempfile
import time

import numpy as np

from thesis_tf.probes.features.shards import HEADER, Column, ShardWriter, make_header, shard_name
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

FEATURES, COLUMNS = 15_000, 17
CHUNK = 512  # examples per append, as in `extract`
PLAIN = 1 << 24
PARTS = 8
DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", help="where to put the store; a temporary folder by default")
    parser.add_argument("--gigabytes", type=float, default=3, help="size of the store")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which medians are shown")
    parser.add_argument("--block-mib", type=float, help="`block_bytes` of the store")
    parser.add_argument(
        "--drop",
        choices=["files", "machine", "no"],
        default="files",
        help="how to empty the page cache for cold reads: of these files, of the machine, not",
    )
    return parser.parse_args()


def make_columns():
    ends = np.linspace(0, FEATURES, COLUMNS + 1).astype(int)
    return [
        Column(Tap(f"tap{i}", (None, n), "float32", "Dense"), n, "float32", f"{i:03d}.npy")
        for i, n in enumerate(np.diff(ends).tolist())
    ]


def rows_of(examples, columns):
    """Yields `CHUNK` rows at a time: random rows once, and then the same rows again."""
    rng = np.random.default_rng(0)
    chunk = [rng.normal(size=(CHUNK, c.features)).astype(np.float32) for c in columns]
    for first in range(0, examples, CHUNK):
        yield [values[: examples - first] for values in chunk]


def write_store(folder, examples, columns):
    header = make_header(columns, Reduction(), model="", data="", examples=examples)
    with ShardWriter(folder / shard_name(0, 1), header) as writer:
        for rows in rows_of(examples, columns):
            writer.append(rows)
            writer.flush()
        writer.finish()


def write_plain(folder, examples, columns):
    folder.mkdir(parents=True, exist_ok=True)
    files = [(folder / column.file).open("wb") for column in columns]
    for rows in rows_of(examples, columns):
        for file, values in zip(files, rows, strict=True):
            file.write(memoryview(values).cast("B"))
    for file in files:
        file.flush()
        os.fsync(file.fileno())
        file.close()


def read_blocks(store, names, **kwargs):
    return sum(len(block[names[0]]) for _, block in store.blocks(names, **kwargs))


def read_into(store, names, buffers):
    rows = len(buffers[names[0]])
    for start in range(0, store.examples, rows):
        left = min(rows, store.examples - start)
        store.read_into({name: values[:left] for name, values in buffers.items()}, start)
    return store.examples


def read_plain(folder, columns, rows, buffer):
    for column in columns:
        with (folder / shard_name(0, 1) / column.file).open("rb", buffering=0) as file:
            file.seek(HEADER + rows.start * column.row_bytes)
            left = (rows.stop - rows.start) * column.row_bytes
            while left:
                left -= file.readinto(buffer[: min(left, len(buffer))])


def drop(folder, how):
    """Empties the page cache of the store's files."""
    if how == "machine":
        try:
            DROP_CACHES.write_text("1\n")
        except OSError:
            raise SystemExit(f"{DROP_CACHES} can't be written: use --drop files.") from None
        return
    for path in folder.glob("*/*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(function, *args, **kwargs):
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def main():
    arguments = parse_arguments()
    columns = make_columns()
    names = [column.name for column in columns]
    row_bytes = sum(column.row_bytes for column in columns)
    examples = int(arguments.gigabytes * 1e9 / row_bytes)
    blocks = {"block_bytes": int(arguments.block_mib * 2**20)} if arguments.block_mib else {}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="feature_store", dir=arguments.folder))
    seconds = {}

    def measure(name, *call, rows=examples, **kwargs):
        seconds.setdefault(name, []).append(timed(*call, **kwargs) / rows)

    try:
        written = min(examples, 10_000)
        for index in range(3):
            measure("write", write_store, folder / f"w{index}", written, columns, rows=written)
            measure(
                "write plain", write_plain, folder / f"p{index}", written, columns, rows=written
            )
            shutil.rmtree(folder / f"w{index}")
            shutil.rmtree(folder / f"p{index}")
        write_store(folder / "store", examples, columns)
        store = FeatureStore(folder / "store", verify=False)
        buffer, everything = memoryview(bytearray(PLAIN)), slice(0, examples)
        plain = (folder / "store", columns)
        arrays = {n: np.zeros((PLAIN // row_bytes, store.features(n)), np.float32) for n in names}
        read_plain(*plain, everything, buffer)
        for _ in range(arguments.rounds):
            measure("warm blocks", read_blocks, store, names, **blocks)
            measure("warm read_into", read_into, store, names, arrays)
            measure("warm plain", read_plain, *plain, everything, buffer)
            measure("verify", FeatureStore, folder / "store")
        for _ in range(PARTS * arguments.rounds // 2 if arguments.drop != "no" else 0):
            first = random.randrange(PARTS) * examples // PARTS
            part = slice(first, first + examples // PARTS)
            ways = {
                "cold blocks": lambda part=part: read_blocks(store, names, rows=part, **blocks),
                "cold plain": lambda part=part: read_plain(*plain, part, buffer),
            }
            for name in random.sample(sorted(ways), len(ways)):
                drop(folder / "store", arguments.drop)
                measure(name, ways[name], rows=part.stop - part.start)
    finally:
        shutil.rmtree(folder)

    print(
        f"{examples} examples of {FEATURES} float32 features, {examples * row_bytes / 1e9:.1f} GB"
    )
    print(f"{'':20}{'GB/s':>8}{'examples/s':>12}{'to plain':>10}")
    for name, values in seconds.items():
        median = statistics.median(values)
        plain = seconds.get(f"{name.split()[0]} plain", seconds["warm plain"])
        ratio = statistics.median(p / v for p, v in zip(plain, values, strict=True))
        print(f"{name:20}{row_bytes / median / 1e9:8.2f}{1 / median:12.0f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
