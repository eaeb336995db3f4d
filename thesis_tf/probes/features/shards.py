"""One shard of a feature store: a folder with a manifest and one `.npy` file per tap.

    00000-of-00001/
        manifest.json       the taps, fingerprints of the model and the data, and the progress
        000.npy, 001.npy    features (examples, D) of each tap, in the order of the manifest

Features are appended and flushed to disk in blocks. The manifest, which is replaced atomically,
has the number of examples on disk and their checksum. Data that a killed process wrote after the
last flush are removed when the shard is opened for writing again.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np

from thesis_tf._core.types import Array, Path
from thesis_tf.persistence import files, fingerprint
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

HEADER = 128  # bytes; fixed, so that the number of examples can be written at the end
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Column:
    """One file of a shard: a tap's features, one of the model's outputs, or labels."""

    tap: Tap
    features: int
    dtype: str
    file: str
    _: dataclasses.KW_ONLY
    prediction: bool = False
    label: bool = False

    @property
    def name(self) -> str:
        """The name in the store; a prediction may also be a tap."""
        if self.label:
            return f"label:{self.tap.name}"
        return f"prediction:{self.tap.name}" if self.prediction else self.tap.name

    @property
    def row_bytes(self) -> int:
        """Bytes per example."""
        return self.features * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """Returns a dict for the manifest."""
        tap = {**dataclasses.asdict(self.tap), "shape": list(self.tap.shape)}
        return {**dataclasses.asdict(self), "tap": tap}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Column:
        """Returns the column from the result of `to_json`."""
        tap = Tap(**{**value["tap"], "shape": tuple(value["tap"]["shape"])})
        return cls(**{**value, "tap": tap})


def label_columns(names: Iterable[str]) -> list[Column]:
    """Returns the columns of labels, in alphabetical order of their names."""
    return [
        Column(Tap(name, (None,), "int64", "Label"), 1, "int64", f"label_{i:03d}.npy", label=True)
        for i, name in enumerate(sorted(names))
    ]


def make_header(
    columns: Sequence[Column],
    reduction: Reduction,
    *,
    model: str,
    data: str,
    examples: int | None = None,
    edges: Sequence[tuple[str, str]] = (),
    shuffled: bool = False,
) -> dict[str, Any]:
    """Returns the constant part of a shard's manifest: everything except its progress.

    Args:
        columns: a list of `Column`, one per file.
        reduction: the `Reduction` that computed the features.
        model: the fingerprint of the model.
        data: the fingerprint of the data.
        examples: the final number of examples; None if it is unknown.
        edges: the data flow among the taps, (parent, child) pairs of names.
        shuffled: whether the examples come in another order in each pass over the data.
    """
    return {
        "format": 1,
        "model": model,
        "data": data,
        "examples": examples,
        "reduction": dataclasses.asdict(reduction),
        "columns": [column.to_json() for column in columns],
        "edges": [list(pair) for pair in edges],
        "shuffled": shuffled,
    }


def shard_name(index: int, count: int) -> str:
    """Returns the name of the folder of shard `index` (from 0) of `count`."""
    return f"{index:05d}-of-{count:05d}"


_SAID = {
    "model": "model (its weights or settings differ)",
    "data": "data set",
    "reduction": "reduction",
    "columns": "choice of taps",
}


def difference(manifest: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Returns a phrase for why two shards can't belong to one store; None if they can."""
    for key, said in _SAID.items():
        if manifest[key] != other[key]:
            return "mask" if key == "columns" and _unmasked(manifest) == _unmasked(other) else said
    return None


def _unmasked(manifest: dict[str, Any]) -> list[Any]:
    return [{**column, "tap": {**column["tap"], "mask": ""}} for column in manifest["columns"]]


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the manifest of a shard.

    Raises:
        ValueError: the manifest is incomplete or was edited.
    """
    manifest = files.read_json(folder / MANIFEST)
    if manifest.pop("digest", None) != fingerprint.of_json(manifest):
        raise ValueError(f"{folder / MANIFEST} was edited: extract this shard again.")
    return manifest


class ShardWriter:
    """Appends features to one shard of a store; a context manager.

    Args:
        folder: the shard's folder. If it holds a part of the same shard, `done` is the number of
            examples that it already has.
        header: the result of `make_header`; a shard with another header is rejected.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self._folder = pathlib.Path(folder)
        self._columns = [Column.from_json(value) for value in header["columns"]]
        self._header = header
        self._files: dict[str, BinaryIO] = {}
        self.done, self.complete = 0, False
        self._checksums = {column.file: 0 for column in self._columns}
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / MANIFEST).exists():
            self._resume(read_manifest(self._folder))

    def _resume(self, manifest: dict[str, Any]) -> None:
        if what := difference(manifest, self._header):
            raise ValueError(
                f"{self._folder} holds features of another {what}. Use another folder, or pass"
                " overwrite=True."
            )
        self.done, self.complete = manifest["done"], manifest["complete"]
        self._checksums = manifest["checksums"]
        for column in self._columns:
            verify_file(self._folder, column, self.done, self._checksums[column.file])

    def __enter__(self) -> ShardWriter:
        """Opens the files and truncates data that a killed process didn't flush."""
        for column in self._columns:
            path = self._folder / column.file
            file = self._files[column.file] = path.open("r+b" if path.exists() else "w+b")
            file.truncate(HEADER + self.done * column.row_bytes if self.done else 0)
            file.seek(0)
            file.write(_npy_header(column, self.done))
            file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files; call `flush` or `finish` before."""
        for file in self._files.values():
            file.close()

    def append(self, rows: Sequence[Array]) -> None:
        """Appends features: a list of (n, D) arrays, one per column."""
        for column, values in zip(self._columns, rows, strict=True):
            assert values.shape == (len(rows[0]), column.features), (column.name, values.shape)
            data = np.ascontiguousarray(values, column.dtype).reshape(-1).view(np.uint8).data
            self._files[column.file].write(data)
            self._checksums[column.file] = zlib.crc32(data, self._checksums[column.file])
        self.done += len(rows[0])

    def flush(self) -> None:
        """Flushes the appended features to disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        manifest = {
            **self._header,
            "done": self.done,
            "complete": self.complete,
            "checksums": self._checksums,
        }
        manifest["digest"] = fingerprint.of_json(manifest)
        files.write_json(self._folder / MANIFEST, manifest)

    def finish(self) -> None:
        """Flushes the shard to disk and completes its `.npy` headers."""
        for column in self._columns:
            file = self._files[column.file]
            file.seek(0)
            file.write(_npy_header(column, self.done))
        self.complete = True
        self.flush()


def _npy_header(column: Column, rows: int) -> bytes:
    """Returns a version 1.0 `.npy` header of exactly `HEADER` bytes."""
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


def check_size(folder: pathlib.Path, column: Column, rows: int) -> None:
    """Raises if a file is too short for its `rows` examples."""
    path = folder / column.file
    need = HEADER + rows * column.row_bytes if rows else 0
    size = path.stat().st_size if path.exists() else 0
    if size < need:
        raise ValueError(
            f"{path} ({column.name!r}) was cut short: {need} bytes were written and"
            f" {size} are there. {_AGAIN}"
        )


def check_header(folder: pathlib.Path, column: Column, rows: int) -> None:
    """Raises if the header of a finished file differs from the manifest."""
    path = folder / column.file
    with path.open("rb") as file:
        if file.read(HEADER) != _npy_header(column, rows):
            raise ValueError(
                f"{path} ({column.name!r}) does not have the header that was written. {_AGAIN}"
            )


def verify_file(folder: pathlib.Path, column: Column, rows: int, checksum: int) -> None:
    """Raises if the checksum of a file's first `rows` examples is wrong."""
    check_size(folder, column, rows)
    got, path = 0, folder / column.file
    if rows:
        left = rows * column.row_bytes
        buffer = memoryview(bytearray(min(1 << 20, left)))
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
