"""The orthonormal vectors of a Krylov space: in memory, on disk, or on an accelerator."""

import os
import tempfile

import numpy as np
import tensorflow as tf

# Elements summed at once in the vectors' own precision; sums of sums are in float64. Summed in
# one go, 3 million float32 products lose four digits, and the vectors their orthogonality.
CHUNK = 1 << 15


class HostBasis:
    """Vectors (d,) as rows of one array in memory, or of a memory-mapped file.

    Args:
        capacity: the most vectors.
        size: d.
        dtype: a floating NumPy dtype.
        memory: bytes that it may take in memory; a larger one is a file.
        scratch: the folder for that file, which is deleted with the basis; None for the system's.
    """

    def __init__(self, capacity, size, dtype, memory, scratch=None):
        shape, self._file = (capacity, size), None
        if capacity * size * np.dtype(dtype).itemsize <= memory:
            self._rows = np.empty(shape, dtype)
        else:
            if scratch is not None:
                os.makedirs(scratch, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(prefix=".krylov_", dir=scratch)  # noqa: SIM115
            self._rows = np.memmap(self._file, dtype, "w+", shape=shape)
        self._count = 0

    @property
    def on_disk(self):
        """Whether the vectors are in a file."""
        return self._file is not None

    def __len__(self):
        """The number of vectors."""
        return self._count

    def __getitem__(self, index):
        """The vector of this number, a NumPy array (d,)."""
        return self._rows[range(self._count)[index]]

    def append(self, vector):
        """Adds a `tf.Tensor` (d,)."""
        self._rows[self._count] = vector.numpy()
        self._count += 1

    def orthogonalized(self, vector, recent):
        """Takes out of a vector what lies along those of the basis, in two passes.

        The first takes out what is there but for rounding, the second that.

        Args:
            vector: a `tf.Tensor` (d,).
            recent: of how many of the newest vectors it has more than rounding errors.

        Returns:
            The rest (d,), and the products (len,) with the vectors, float64.
        """
        rest, total = vector.numpy().copy(), np.zeros(self._count)
        for first in (max(0, self._count - recent), 0):
            products = self._dot(rest, first)
            self._subtract(products, rest, first)
            total[first:] += products
        return tf.convert_to_tensor(rest), total

    def close(self):
        """Frees the memory, or deletes the file."""
        self._rows, self._count = None, 0
        if self._file is not None:
            self._file.close()

    def combine(self, coefficients):
        """The sums of the vectors times coefficients (len, k): a NumPy array (k, d)."""
        weights = np.ascontiguousarray(coefficients.T, self._rows.dtype)
        result = np.empty((len(weights), self._rows.shape[1]), self._rows.dtype)
        for columns, rows in self._chunks():
            result[:, columns] = weights @ rows
        return result

    def replace(self, coefficients):
        """Puts the sums of the vectors times coefficients (len, k) in the vectors' place."""
        weights = np.ascontiguousarray(coefficients.T, self._rows.dtype)
        for columns, rows in self._chunks():
            self._rows[: len(weights), columns] = weights @ rows
        self._count = len(weights)

    def _chunks(self, first=0):
        for start in range(0, self._rows.shape[1], CHUNK):
            columns = slice(start, start + CHUNK)
            yield columns, self._rows[first : self._count, columns]

    def _dot(self, vector, first):
        total = np.zeros(self._count - first)
        for columns, rows in self._chunks(first):
            total += rows @ vector[columns]
        return total

    def _subtract(self, coefficients, vector, first):
        weights = coefficients.astype(vector.dtype)
        for columns, rows in self._chunks(first):
            vector[columns] -= weights @ rows


class DeviceBasis:
    """Vectors (d,) as rows of a variable on an accelerator; as `HostBasis` otherwise.

    Sums over d are in the vectors' precision: accelerators add up in trees.
    """

    on_disk = False

    def __init__(self, capacity, size, dtype):
        self._rows = tf.Variable(tf.zeros((capacity, size), dtype), trainable=False)
        self._count = 0

    def __len__(self):
        """The number of vectors."""
        return self._count

    def __getitem__(self, index):
        """The vector of this number, a NumPy array (d,)."""
        return self._rows[range(self._count)[index]].numpy()

    def append(self, vector):
        """Adds a `tf.Tensor` (d,)."""
        self._rows[self._count].assign(vector)
        self._count += 1

    def orthogonalized(self, vector, recent):
        """The rest (d,) of a `tf.Tensor` (d,), and the products (len,) with the vectors."""
        # Rows that hold no vector yet are zero: always all of them, so that shapes are static.
        rest, total = _orthogonalized(self._rows, vector)
        return rest, total.numpy()[: self._count].astype(np.float64)

    def close(self):
        """Frees the memory."""
        self._rows, self._count = None, 0

    def combine(self, coefficients):
        """The sums of the vectors times coefficients (len, k): a NumPy array (k, d)."""
        return tf.matmul(self._padded(coefficients), self._rows).numpy()

    def replace(self, coefficients):
        """Puts the sums of the vectors times coefficients (len, k) in the vectors' place."""
        self._count = coefficients.shape[1]
        sums = tf.matmul(self._padded(coefficients), self._rows)
        self._rows.assign(tf.pad(sums, [[0, self._rows.shape[0] - self._count], [0, 0]]))

    def _padded(self, coefficients):
        weights = np.zeros((coefficients.shape[1], self._rows.shape[0]))
        weights[:, : len(coefficients)] = coefficients.T
        return tf.constant(weights, self._rows.dtype)


@tf.function(autograph=False, reduce_retracing=True)
def _orthogonalized(rows, vector):
    total = 0.0
    for _ in range(2):
        products = tf.linalg.matvec(rows, vector)
        vector = vector - tf.linalg.matvec(rows, products, transpose_a=True)
        total += products
    return vector, total
