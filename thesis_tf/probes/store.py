"""The feature store: the reduced activations of every tap, one `.npy` file a tap, on disk.

A store is a folder of shards, `00000-of-00001` and so on, each written by one process:

    00000-of-00001/
        manifest.json       what was measured, of which model and data, and how far it got
        000.npy, 001.npy    features (examples, D) of each tap, in the order of the manifest

Features are appended and made durable block by block; the manifest, which is replaced
atomically, says how many examples are durable and what their checksum is. What a killed process
left beyond that is cut off when the shard is opened for writing again.
"""

import bisect
import dataclasses
import itertools
import os
import pathlib
import re
import zlib
from concurrent import futures

import numpy as np

from thesis_tf import _checks, _files, _fingerprint
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

HEADER = 128  # bytes; fixed, so that the number of examples can be filled in at the end
MANIFEST = "manifest.json"
READ = 1 << 20  # bytes a read
BLOCK = 1 << 23  # bytes; two of them stay in the cache between being read and being used
THREADS = 4
_SHARD = re.compile(r"(\d{5})-of-(\d{5})")


@dataclasses.dataclass(frozen=True)
class Column:
    """One file of a shard: a tap's features or one of the model's outputs."""

    tap: Tap
    features: int
    dtype: str
    file: str
    prediction: bool = False

    @property
    def name(self):
        """What the store calls it; a prediction may be a tap as well."""
        return f"prediction:{self.tap.name}" if self.prediction else self.tap.name

    @property
    def row_bytes(self):
        """Bytes an example."""
        return self.features * np.dtype(self.dtype).itemsize

    def to_json(self):
        """As a dict for the manifest."""
        tap = {**dataclasses.asdict(self.tap), "shape": list(self.tap.shape)}
        return {**dataclasses.asdict(self), "tap": tap}

    @classmethod
    def from_json(cls, value):
        """Reads what `to_json` wrote."""
        tap = Tap(**{**value["tap"], "shape": tuple(value["tap"]["shape"])})
        return cls(**{**value, "tap": tap})


def shard_name(index, count):
    """The folder of shard `index` (from 0) of `count`."""
    return f"{index:05d}-of-{count:05d}"


_SAID = {
    "model": "model (its weights or settings differ)",
    "data": "data set",
    "reduction": "reduction",
    "columns": "choice of taps",
}


def difference(manifest, other):
    """Says in what two shards differ that one store can't hold together; None if in nothing."""
    return next((said for key, said in _SAID.items() if manifest[key] != other[key]), None)


def read_manifest(shard):
    """Reads the manifest of a shard.

    Raises:
        ValueError: it was cut short or edited.
    """
    manifest = _files.read_json(shard / MANIFEST)
    # Without a digest: written before there was one.
    if manifest.pop("digest", None) not in (None, _fingerprint.of_json(manifest)):
        raise ValueError(f"{shard / MANIFEST} was edited: extract this shard again.")
    return manifest


class ShardWriter:
    """Appends features to one shard of a store; a context manager.

    Args:
        folder: the shard's folder. If it holds the beginning of the same work, `done` says how
            many examples are there already.
        header: a dict that says what is measured; a shard with another one is refused.
        columns: a list of `Column`, as in `header["columns"]`.
    """

    def __init__(self, folder, header, columns):
        self._folder = pathlib.Path(folder)
        self._columns = columns
        self._header = header
        self._files = {}
        self.done, self.complete = 0, False
        self._checksums = {column.file: 0 for column in columns}
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / MANIFEST).exists():
            self._resume(read_manifest(self._folder))

    def _resume(self, manifest):
        if what := difference(manifest, self._header):
            raise ValueError(
                f"{self._folder} holds features of another {what}. Use another folder, or pass"
                " overwrite=True."
            )
        self.done, self.complete = manifest["done"], manifest["complete"]
        self._checksums = manifest["checksums"]
        for column in self._columns:
            _verify(self._folder, column, self.done, self._checksums[column.file])

    def __enter__(self):
        """Opens the files and cuts off what a killed process left behind."""
        for column in self._columns:
            path = self._folder / column.file
            file = self._files[column.file] = path.open("r+b" if path.exists() else "w+b")
            file.truncate(HEADER + self.done * column.row_bytes if self.done else 0)
            file.seek(0)
            file.write(_npy_header(column, self.done))
            file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *_):
        """Closes the files; call `flush` or `finish` before."""
        for file in self._files.values():
            file.close()

    def append(self, rows):
        """Appends features: a list of (n, D) arrays, one a column."""
        for column, values in zip(self._columns, rows, strict=True):
            assert values.shape == (len(rows[0]), column.features), (column.name, values.shape)
            data = np.ascontiguousarray(values, column.dtype).reshape(-1).view(np.uint8)
            self._files[column.file].write(data)
            self._checksums[column.file] = zlib.crc32(data, self._checksums[column.file])
        self.done += len(rows[0])

    def flush(self):
        """Makes what was appended durable."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        manifest = {
            **self._header,
            "done": self.done,
            "complete": self.complete,
            "checksums": self._checksums,
        }
        manifest["digest"] = _fingerprint.of_json(manifest)
        _files.write_json(self._folder / MANIFEST, manifest)

    def finish(self):
        """Makes the shard durable and readable as `.npy` files."""
        for column in self._columns:
            file = self._files[column.file]
            file.seek(0)
            file.write(_npy_header(column, self.done))
        self.complete = True
        self.flush()


class FeatureStore:
    """The features that `extract` wrote, read as one table whatever the number of shards.

    Attributes:
        folder: where it is.
        taps: a list of `Tap`, in the order of computation.
        predictions: the names of the model's own outputs, kept beside the taps; `read` takes them.
        edges: the data flow among the taps, (parent, child) pairs of names.
        reduction: the `Reduction`.
        examples: the number of examples.
        model: the hash of the model that made it.
        data: the hash of the data that went in.
    """

    def __init__(self, folder, verify=True):
        """Opens a store.

        Args:
            folder: the folder that `extract` was given.
            verify: whether to read all of it once and compare checksums (about 4 GB/s a core).

        Raises:
            FileNotFoundError: there is no store, or a shard of it is missing.
            ValueError: a shard is not complete, was cut short or changed, or does not belong to
                the others.
        """
        self.folder = pathlib.Path(folder)
        shards = self.shards(folder)
        if not shards:
            raise FileNotFoundError(f"{folder} holds no feature store. Make one with `extract`.")
        count = int(_SHARD.fullmatch(shards[0].name)[2])
        self._shards = [self.folder / shard_name(index, count) for index in range(count)]
        for shard in self._shards:
            if not (shard / MANIFEST).exists():
                raise FileNotFoundError(
                    f"{shard.name} is missing from {folder}: extract it with"
                    f" shard=({int(shard.name[:5]) + 1}, {count})."
                )
        manifests = [read_manifest(shard) for shard in self._shards]
        first = manifests[0]
        for shard, manifest in zip(self._shards, manifests, strict=True):
            if not manifest["complete"]:
                raise ValueError(
                    f"{shard} is not complete: {manifest['done']} of its examples are there. Run"
                    " the same extraction again; it goes on from where it stopped."
                )
            if what := difference(manifest, first):
                raise ValueError(
                    f"{shard.name} of {folder} was made from another {what} than"
                    f" {self._shards[0].name}. Extract one of them again."
                )
        columns = [Column.from_json(value) for value in first["columns"]]
        self._columns = {column.name: column for column in columns}
        # Where each shard's examples begin, and the end.
        self._rows = [0, *itertools.accumulate(manifest["done"] for manifest in manifests)]
        self.taps = [column.tap for column in columns if not column.prediction]
        self.predictions = [column.name for column in columns if column.prediction]
        self.edges = [tuple(pair) for pair in first["edges"]]
        self.reduction = Reduction(**first["reduction"])
        self.examples = self._rows[-1]
        self.model, self.data = first["model"], first["data"]
        checks = [
            (shard, column, manifest["done"], manifest["checksums"][column.file])
            for shard, manifest in zip(self._shards, manifests, strict=True)
            for column in columns
        ]
        for shard, column, rows, _ in checks:
            _check_size(shard, column, rows)
            _check_header(shard, column, rows)
        if verify:
            with futures.ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda check: _verify(*check), checks))

    @staticmethod
    def shards(folder):
        """The folders of the shards that are in a store's folder."""
        paths = pathlib.Path(folder).glob("*-of-*")
        return sorted(path for path in paths if _SHARD.fullmatch(path.name))

    @classmethod
    def is_complete(cls, folder):
        """Whether every shard is there and finished."""
        shards = cls.shards(folder)
        return (
            bool(shards)
            and len(shards) == int(_SHARD.fullmatch(shards[0].name)[2])
            and all((s / MANIFEST).exists() and read_manifest(s)["complete"] for s in shards)
        )

    def features(self, name):
        """The number of features of a tap or prediction."""
        return self._column(name).features

    def dtype(self, name):
        """The NumPy dtype of a tap's features."""
        return np.dtype(self._column(name).dtype)

    def _column(self, name):
        if name not in self._columns:
            raise KeyError(
                f"{self.folder} has no tap {name!r}. {_checks.nearest(name, self._columns)}"
            )
        return self._columns[name]

    def read(self, name, rows=slice(None)):
        """Returns features (n, D) of tap `name`.

        Args:
            name: the tap.
            rows: a slice, an array of indices or a mask over the examples, as NumPy takes them.

        Raises:
            IndexError: a row is out of range.
        """
        column = self._column(name)
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(self.examples)
            values = np.empty((max(0, stop - start), column.features), column.dtype)
            self.read_into({name: values}, start)
            return values
        rows = np.arange(self.examples)[rows]
        shards = np.searchsorted(self._rows, rows, side="right") - 1
        values = np.empty((len(rows), column.features), column.dtype)
        for shard in np.unique(shards):
            here = shards == shard
            mapped = np.load(self._shards[shard] / column.file, "r", allow_pickle=False)
            values[here] = mapped[rows[here] - self._rows[shard]]
        return values

    def read_into(self, buffers, start):
        """Fills arrays with the features of consecutive examples.

        Args:
            buffers: a dict from tap name to a C-contiguous array (n, D) of the tap's dtype.
            start: the first example.

        Raises:
            ValueError: an array does not suit its tap.
            IndexError: there are not as many examples.
        """
        with _Reader() as reader:
            reader.wait(reader.start(self._pieces(buffers, start)))

    def _pieces(self, buffers, start):
        """Returns (path, offset, view) for each read of at most `READ` bytes."""
        pieces = []
        for name, values in buffers.items():
            column, stop = self._column(name), start + len(values)
            if values.shape[1:] != (column.features,) or values.dtype != column.dtype:
                raise _checks.invalid(
                    f"The array for {name!r}",
                    f"(n, {column.features}) of {column.dtype}",
                    f"{values.shape} of {values.dtype}",
                )
            if not values.flags.c_contiguous:
                raise _checks.invalid(f"The array for {name!r}", "C-contiguous", "one with strides")
            if start < 0 or stop > self.examples:
                raise IndexError(
                    f"Examples {start} to {stop} were asked for; there are {self.examples}."
                )
            view, size = memoryview(values.reshape(-1).view(np.uint8)), column.row_bytes
            first = start
            while first < stop:
                shard = bisect.bisect_right(self._rows, first) - 1
                last = min(stop, self._rows[shard + 1])
                path = f"{self._shards[shard]}/{column.file}"
                offset = HEADER + (first - self._rows[shard]) * size
                part = view[(first - start) * size : (last - start) * size]
                pieces += [
                    (path, offset + at, part[at : at + READ]) for at in range(0, len(part), READ)
                ]
                first = last
        return pieces

    def blocks(self, names, rows=slice(None), block_bytes=BLOCK):
        """Yields (start, {name: features}) for consecutive blocks of examples.

        The next block is read while the caller works on this one. Memory is two blocks, however
        large the store: a block's arrays are overwritten as soon as the next one is asked for.

        Args:
            names: the taps.
            rows: a slice of step 1.
            block_bytes: the size of a block over all taps.
        """
        start, stop, step = rows.indices(self.examples)
        if step != 1:
            raise _checks.invalid("`rows`", "a slice of step 1", rows, "Use `read` for others.")
        row_bytes = sum(self._column(name).row_bytes for name in names)
        size = max(1, min(block_bytes // row_bytes, stop - start))
        buffers = [
            {name: np.empty((size, self.features(name)), self.dtype(name)) for name in names}
            for _ in range(2)
        ]

        def launch(number):
            first = start + number * size
            block = {n: b[: max(0, stop - first)] for n, b in buffers[number % 2].items()}
            return first, block, reader.start(self._pieces(block, first) if first < stop else [])

        with _Reader() as reader:
            following = launch(0)
            for number in range(1, 1 + -(-(stop - start) // size)):
                first, block, reads = following
                reader.wait(reads)
                following = launch(number)
                yield first, block


class _Reader:
    """Threads that read pieces of files; files stay open from one batch of pieces to the next."""

    def __init__(self):
        self._pool = futures.ThreadPoolExecutor(THREADS)
        self._open = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown()
        self._keep([])

    def start(self, pieces):
        """Begins to read (path, offset, view) pieces; those of the batch before must be done."""
        self._keep(dict.fromkeys(path for path, _, _ in pieces))
        jobs = [(self._open[path], offset, view) for path, offset, view in pieces]
        # One share a thread: a task a piece would cost more than a piece.
        shares = [jobs[i::THREADS] for i in range(THREADS)]
        return [self._pool.submit(_read_all, share) for share in shares if share]

    def wait(self, reads):
        """Returns when a batch is read; raises what went wrong."""
        for read in reads:
            read.result()

    def _keep(self, paths):
        """Closes all files but these, and opens those of them that are not open."""
        for path in [path for path in self._open if path not in paths]:
            os.close(self._open.pop(path))
        for path in paths:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY)


def _read_all(jobs):
    for descriptor, offset, view in jobs:
        while len(view):
            read = os.preadv(descriptor, [view], offset)
            if read == 0:
                raise ValueError("A file of the feature store was cut short while it was read.")
            view, offset = view[read:], offset + read


def _npy_header(column, rows):
    """A version 1.0 `.npy` header of exactly `HEADER` bytes."""
    text = repr(
        {
            "descr": np.dtype(column.dtype).str,
            "fortran_order": False,
            "shape": (rows, column.features),
        }
    )
    magic = b"\x93NUMPY\x01\x00"
    length = HEADER - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


def _check_size(folder, column, rows):
    """Raises if a file is too short for its `rows` examples."""
    path = folder / column.file
    need = HEADER + rows * column.row_bytes if rows else 0
    size = path.stat().st_size if path.exists() else 0
    if size < need:
        raise ValueError(
            f"{path} ({column.name!r}) was cut short: {need} bytes were written and"
            f" {size} are there. {_AGAIN}"
        )


def _check_header(folder, column, rows):
    """Raises if NumPy would not read a finished file as the manifest says."""
    path = folder / column.file
    with path.open("rb") as file:
        if file.read(HEADER) != _npy_header(column, rows):
            raise ValueError(
                f"{path} ({column.name!r}) does not have the header that was written. {_AGAIN}"
            )


def _verify(folder, column, rows, checksum):
    """Raises if a file's first `rows` examples are not what was written."""
    _check_size(folder, column, rows)
    got, path = 0, folder / column.file
    if rows:
        left = rows * column.row_bytes
        buffer = memoryview(bytearray(min(READ, left)))
        with path.open("rb", buffering=0) as file:
            file.seek(HEADER)
            while size := file.readinto(buffer[: min(left, len(buffer))]):
                got, left = zlib.crc32(buffer[:size], got), left - size
    if got != checksum:
        raise ValueError(
            f"{path} ({column.name!r}) is not what was written: checksum {got:08x}, the"
            f" manifest has {checksum:08x}. {_AGAIN}"
        )


_AGAIN = "Extract this shard again, with overwrite=True."
