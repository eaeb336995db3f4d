"""The orthonormal vectors of a Krylov space: in memory, on disk, or on an accelerator."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from thesis_tf._core.types import Path

# The number of elements that are summed in the vectors' precision; these sums are added in float64.
# A single float32 sum of 3 million products would lose four digits, and vectors would not be
# orthogonal.
CHUNK = 1 << 15


class Basis(Protocol):
    """Storage for `ncv` vectors (d,); its user keeps track of how many it has written.

    Attributes:
        ncv: the maximum number of vectors.
        replacements: the number of calls of `replace`, from which a `LanczosState` knows whether
            its vectors still exist.
    """

    ncv: int
    replacements: int

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the vector of this number, (d,)."""

    def put(self, index: int, vector: "tf.Tensor") -> None:
        """Writes a vector (d,)."""

    def orthogonalized(
        self, vector: "tf.Tensor", count: int, recent: int
    ) -> tuple["tf.Tensor", np.ndarray]:
        """Removes from a vector its components along the first `count` vectors, in two passes.

        The first pass leaves rounding errors, which the second removes.

        Args:
            vector: (d,).
            count: the number of vectors.
            recent: the number of newest vectors to which the vector isn't already orthogonal up to
                rounding.

        Returns:
            The remaining vector (d,), and the inner products (count,) with the vectors, float64.
        """

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Returns (k, d), sums of the first m vectors times coefficients (m, k)."""

    def replace(self, coefficients: np.ndarray) -> None:
        """Replaces the first k vectors by sums of the first m, with coefficients (m, k)."""

    def close(self) -> None:
        """Frees the memory, and deletes the file."""


def make_basis(
    size: int,
    dtype: npt.DTypeLike,
    *,
    ncv: int,
    memory_limit: float = np.inf,
    folder: Path | None = None,
) -> Basis:
    """Returns a basis on an accelerator if there is one with room, otherwise on the host.

    Args:
        size: d.
        dtype: a floating NumPy dtype.
        ncv: the largest number of vectors.
        memory_limit: bytes; a larger basis is a file on disk.
        folder: the folder for that file; None for the system's.
    """
    accelerators = [d for d in tf.config.list_logical_devices() if d.device_type in ("GPU", "TPU")]
    if accelerators and ncv * size * np.dtype(dtype).itemsize <= memory_limit:
        return DeviceBasis(ncv, size, dtype)
    return HostBasis(ncv, size, dtype, memory_limit, folder=folder)


class HostBasis:
    """A `Basis` whose vectors are rows of one array in memory, or of a memory-mapped file.

    Args:
        ncv: the largest number of vectors.
        size: d.
        dtype: a floating NumPy dtype.
        memory_limit: bytes that it may take in memory; a larger one is a file.
        folder: the folder for that file, which is deleted with the basis; None for the system's.
    """

    def __init__(
        self,
        ncv: int,
        size: int,
        dtype: npt.DTypeLike,
        memory_limit: float,
        *,
        folder: Path | None = None,
    ) -> None:
        self.ncv, self.replacements = ncv, 0
        self._file: Any = None
        self._rows: np.ndarray
        shape = (ncv, size)
        if ncv * size * np.dtype(dtype).itemsize <= memory_limit:
            self._rows = np.empty(shape, dtype)
        else:
            if folder is not None:
                os.makedirs(folder, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(prefix=".krylov_", dir=folder)  # noqa: SIM115
            self._rows = np.memmap(self._file, dtype, "w+", shape=shape)

    @property
    def on_disk(self) -> bool:
        """Whether the vectors are in a file."""
        return self._file is not None

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the vector of this number, (d,)."""
        vector: np.ndarray = self._rows[index]
        return vector

    def put(self, index: int, vector: "tf.Tensor") -> None:
        """Writes a vector (d,)."""
        self._rows[index] = vector.numpy()

    def orthogonalized(
        self, vector: "tf.Tensor", count: int, recent: int
    ) -> tuple["tf.Tensor", np.ndarray]:
        """Returns the rest (d,) of a vector, and the inner products (count,)."""
        rest, total = vector.numpy().copy(), np.zeros(count)
        for first in (max(0, count - recent), 0):
            products = self._dot(rest, first, count)
            self._subtract(products, rest, first, count)
            total[first:] += products
        return tf.convert_to_tensor(rest), total

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Returns (k, d), sums of the first m vectors times coefficients (m, k)."""
        weights = np.ascontiguousarray(coefficients.T, self._rows.dtype)
        result = np.empty((len(weights), self._rows.shape[1]), self._rows.dtype)
        for columns, rows in self._chunks(0, len(coefficients)):
            result[:, columns] = weights @ rows
        return result

    def replace(self, coefficients: np.ndarray) -> None:
        """Writes the sums of the first m vectors times coefficients (m, k) over the first k."""
        self.replacements += 1
        weights = np.ascontiguousarray(coefficients.T, self._rows.dtype)
        for columns, rows in self._chunks(0, len(coefficients)):
            self._rows[: len(weights), columns] = weights @ rows

    def close(self) -> None:
        """Frees the memory, or deletes the file."""
        self._rows = np.empty((0, 0))
        if self._file is not None:
            self._file.close()

    def _chunks(self, first: int, stop: int) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, self._rows.shape[1], CHUNK):
            columns = slice(start, start + CHUNK)
            yield columns, self._rows[first:stop, columns]

    def _dot(self, vector: np.ndarray, first: int, stop: int) -> np.ndarray:
        total = np.zeros(stop - first)
        for columns, rows in self._chunks(first, stop):
            total += rows @ vector[columns]
        return total

    def _subtract(
        self, coefficients: np.ndarray, vector: np.ndarray, first: int, stop: int
    ) -> None:
        weights = coefficients.astype(vector.dtype)
        for columns, rows in self._chunks(first, stop):
            vector[columns] -= weights @ rows


class DeviceBasis:
    """A `Basis` whose vectors are rows of a variable on an accelerator.

    Sums over d are in the vectors' precision, since accelerators add in tree order.
    """

    on_disk = False

    def __init__(self, ncv: int, size: int, dtype: npt.DTypeLike) -> None:
        self.ncv, self.replacements = ncv, 0
        self._rows: Any = tf.Variable(tf.zeros((ncv, size), dtype), trainable=False)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the vector of this number, (d,)."""
        vector: np.ndarray = self._rows[index].numpy()
        return vector

    def put(self, index: int, vector: "tf.Tensor") -> None:
        """Writes a vector (d,)."""
        self._rows[index].assign(vector)

    def orthogonalized(
        self, vector: "tf.Tensor", count: int, recent: int
    ) -> tuple["tf.Tensor", np.ndarray]:
        """Returns the rest (d,) of a vector, and the inner products (count,)."""
        # Unused rows are zero, so that all rows can be used and shapes are static.
        rest, total = _orthogonalized(self._rows, vector)
        return rest, total.numpy()[:count].astype(np.float64)

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Returns (k, d), sums of the first m vectors times coefficients (m, k)."""
        sums: np.ndarray = tf.matmul(self._padded(coefficients), self._rows).numpy()
        return sums

    def replace(self, coefficients: np.ndarray) -> None:
        """Writes the sums of the first m vectors times coefficients (m, k) over the first k."""
        self.replacements += 1
        sums = tf.matmul(self._padded(coefficients), self._rows)
        free = self.ncv - coefficients.shape[1]
        self._rows.assign(tf.pad(sums, [[0, free], [0, 0]]))

    def close(self) -> None:
        """Frees the memory."""
        self._rows = None

    def _padded(self, coefficients: np.ndarray) -> "tf.Tensor":
        weights = np.zeros((coefficients.shape[1], self.ncv))
        weights[:, : len(coefficients)] = coefficients.T
        return tf.constant(weights, self._rows.dtype)


@tf.function(autograph=False, reduce_retracing=True)
def _orthogonalized(rows: "tf.Variable", vector: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    total = 0.0
    for _ in range(2):
        products = tf.linalg.matvec(rows, vector)
        vector = vector - tf.linalg.matvec(rows, products, transpose_a=True)
        total += products
    return vector, total
