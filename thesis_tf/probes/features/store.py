"""The feature store: the features of every tap, on disk, read as one table.

A store is a folder of shards, `00000-of-00001` and so on, each written by one process.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array, Path
from thesis_tf.probes.features.shards import (
    HEADER,
    MANIFEST,
    Column,
    check_header,
    check_size,
    difference,
    read_manifest,
    shard_name,
    verify_file,
)
from thesis_tf.probes.reductions import Reduction

READ = 1 << 20  # bytes per read
BLOCK = 1 << 24  # bytes; two blocks stay in the CPU cache between being read and being used
# With more threads than cores, threads wait for each other: 4 on 2 cores are 1.2x to 1.3x slower.
THREADS = max(1, min(4, os.cpu_count() or 1))
_SHARD = re.compile(r"(\d{5})-of-(\d{5})")


Piece = tuple[str, int, memoryview]  # path, offset, destination


class FeatureStore:
    """The features that `extract` wrote, read as one table for any number of shards.

    Attributes:
        folder: the folder.
        taps: a list of `Tap`, in the order of computation.
        predictions: the names of the model's outputs, which are stored too; `read` accepts them.
        edges: the data flow among the taps, (parent, child) pairs of names.
        reduction: the `Reduction`.
        labels: (examples,) int64, the labels of the data set from which the features were
            extracted; {name: labels} if it had several; None if it had none that are kept.
        shuffled: whether that data set had another order in each pass, so that no other labels
            belong to these features.
        examples: the number of examples.
        model: the fingerprint of the model.
        data: the fingerprint of the data.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        """Opens a store.

        Args:
            folder: the folder that was passed to `extract`.
            verify: whether to read all files once and compare checksums (about 2 GB/s per core).

        Raises:
            FileNotFoundError: there is no store, or a shard of it is missing.
            ValueError: a shard is incomplete, damaged, or doesn't belong to the others.
        """
        self.folder = pathlib.Path(folder)
        shards = self.shards(folder)
        if not shards:
            raise FileNotFoundError(f"{folder} holds no feature store. Make one with `extract`.")
        count = _number_of_shards(shards[0])
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
                    f"{shard} is not complete: it has {manifest['done']} examples. Run the same"
                    " extraction again; it continues where it stopped."
                )
            if what := difference(manifest, first):
                raise ValueError(
                    f"{shard.name} of {folder} was made from another {what} than"
                    f" {self._shards[0].name}. Extract one of them again."
                )
        columns = [Column.from_json(value) for value in first["columns"]]
        self._columns = {column.name: column for column in columns}
        # The index of each shard's first example, and the number of examples.
        self._rows = [0, *itertools.accumulate(manifest["done"] for manifest in manifests)]
        self.taps = [c.tap for c in columns if not c.prediction and not c.label]
        self.predictions = [column.name for column in columns if column.prediction]
        self.edges = [tuple(pair) for pair in first["edges"]]
        self.reduction = Reduction(**first["reduction"])
        self.examples = self._rows[-1]
        self.model, self.data = first["model"], first["data"]
        self.shuffled: bool = first.get("shuffled", False)
        self._labels = {column.tap.name: column.name for column in columns if column.label}
        to_verify = [
            (shard, column, manifest["done"], manifest["checksums"][column.file])
            for shard, manifest in zip(self._shards, manifests, strict=True)
            for column in columns
        ]
        for shard, column, rows, _ in to_verify:
            check_size(shard, column, rows)
            check_header(shard, column, rows)
        if verify:
            with futures.ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda check: verify_file(*check), to_verify))

    def __repr__(self) -> str:
        """Returns the folder and the size."""
        size = f"{self.examples} examples, {len(self.taps)} taps"
        return f"FeatureStore({str(self.folder)!r}, {size})"

    @staticmethod
    def shards(folder: Path) -> list[pathlib.Path]:
        """Returns the folders of the shards in a store's folder."""
        paths = pathlib.Path(folder).glob("*-of-*")
        return sorted(path for path in paths if _SHARD.fullmatch(path.name))

    @classmethod
    def is_complete(cls, folder: Path) -> bool:
        """Returns whether every shard exists and is complete."""
        shards = cls.shards(folder)
        return (
            bool(shards)
            and len(shards) == _number_of_shards(shards[0])
            and all((s / MANIFEST).exists() and read_manifest(s)["complete"] for s in shards)
        )

    @functools.cached_property
    def labels(self) -> Array | dict[str, Array] | None:
        """The labels that the data set had; see the class."""
        found = {name: self.read(column)[:, 0] for name, column in self._labels.items()}
        return found.get("", found or None)

    def features(self, name: str) -> int:
        """Returns the number of features of a tap or prediction."""
        return self._column(name).features

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the NumPy dtype of a tap's features."""
        return np.dtype(self._column(name).dtype)

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            raise KeyError(
                f"{self.folder} has no tap {name!r}. {checks.nearest(name, self._columns)}"
            )
        return self._columns[name]

    def read(self, name: str, rows: Any = slice(None)) -> Array:
        """Returns features (n, D) of tap `name`.

        Args:
            name: the tap.
            rows: a slice, an array of indices or a mask over the examples, as in NumPy.

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

    def read_into(self, buffers: Mapping[str, Array], start: int) -> None:
        """Fills arrays with the features of consecutive examples.

        Args:
            buffers: a dict from tap name to a C-contiguous array (n, D) of the tap's dtype.
            start: the first example.

        Raises:
            ValueError: an array doesn't fit its tap.
            IndexError: there are fewer examples.
        """
        with _Reader() as reader:
            reader.wait(reader.start(self._pieces(buffers, start)))

    def _pieces(self, buffers: Mapping[str, Array], start: int) -> list[Piece]:
        """Returns (path, offset, view) for each read of at most `READ` bytes."""
        pieces: list[Piece] = []
        for name, values in buffers.items():
            column, stop = self._column(name), start + len(values)
            if values.shape[1:] != (column.features,) or values.dtype != column.dtype:
                raise checks.invalid(
                    f"The array for {name!r}",
                    f"(n, {column.features}) of {column.dtype}",
                    f"{values.shape} of {values.dtype}",
                )
            if not values.flags.c_contiguous:
                raise checks.invalid(f"The array for {name!r}", "C-contiguous", "one with strides")
            if start < 0 or stop > self.examples:
                raise IndexError(
                    f"Examples {start} to {stop} were requested; there are {self.examples}."
                )
            view, size = values.reshape(-1).view(np.uint8).data, column.row_bytes
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

    def blocks(
        self, names: Sequence[str], rows: slice = slice(None), *, block_bytes: int = BLOCK
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yields (start, {name: features}) for consecutive blocks of examples.

        The next block is read while the caller uses the current one. For a store of any size,
        memory holds two blocks: a block's arrays are overwritten when the next block is requested.

        Args:
            names: the taps.
            rows: a slice of step 1.
            block_bytes: the size of a block over all taps.
        """
        start, stop, step = rows.indices(self.examples)
        if step != 1:
            raise checks.invalid("`rows`", "a slice of step 1", rows, "Otherwise use `read`.")
        row_bytes = sum(self._column(name).row_bytes for name in names)
        size = max(1, min(block_bytes // row_bytes, stop - start))
        buffers = [
            {name: np.empty((size, self.features(name)), self.dtype(name)) for name in names}
            for _ in range(2)
        ]

        def plan(number: int) -> tuple[int, dict[str, Array], list[Piece]]:
            first = start + number * size
            block = {n: b[: max(0, stop - first)] for n, b in buffers[number % 2].items()}
            return first, block, self._pieces(block, first) if first < stop else []

        with _Reader() as reader:
            following = plan(0)
            reads = reader.start(following[2])
            for number in range(1, 1 + -(-(stop - start) // size)):
                first, block, _ = following
                following = plan(number)  # in advance, so that threads don't wait between blocks
                reader.wait(reads)
                reads = reader.start(following[2])
                yield first, block


class _Reader:
    """Threads that read pieces of files; files stay open between batches of pieces."""

    def __init__(self) -> None:
        self._pool = futures.ThreadPoolExecutor(THREADS)
        self._open: dict[str, int] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._keep([])

    def start(self, pieces: Iterable[Piece]) -> list[futures.Future[None]]:
        """Starts to read (path, offset, view) pieces; the previous batch must be finished."""
        pieces = list(pieces)
        self._keep(dict.fromkeys(path for path, _, _ in pieces))
        jobs = [(self._open[path], offset, view) for path, offset, view in pieces]
        # One task per thread: a task per piece would have more overhead than the read itself.
        shares = [jobs[i::THREADS] for i in range(THREADS)]
        return [self._pool.submit(_read_all, share) for share in shares if share]

    def wait(self, reads: Iterable[futures.Future[None]]) -> None:
        """Waits until a batch is read; raises its errors."""
        for read in reads:
            read.result()

    def _keep(self, paths: Iterable[str]) -> None:
        """Opens these files if they aren't open, and closes all others."""
        for path in [path for path in self._open if path not in paths]:
            os.close(self._open.pop(path))
        for path in paths:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY)


def _read_all(jobs: Iterable[tuple[int, int, memoryview]]) -> None:
    for descriptor, offset, view in jobs:
        while len(view):
            read = os.preadv(descriptor, [view], offset)
            if read == 0:
                raise ValueError("A file of the feature store was truncated while it was read.")
            view, offset = view[read:], offset + read


def _number_of_shards(shard: pathlib.Path) -> int:
    return int(shard.name.rpartition("-")[2])
