"""Standardized features, in memory or in blocks from disk, and the spectrum of X'X."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Array

Blocks = Callable[[], Iterable[tuple[int, Array]]]

RANKS = 128, 256  # bounds of the rank: for a few hundred features, and for more than a thousand
ROWS = 2048  # the minimum number of examples for the estimate of the spectrum
FLOOR = 1e-3  # the smallest scale of a feature, relative to the median standard deviation


class Spectrum(NamedTuple):
    """X'X/N as its largest eigenvalues and the mean of the others.

    Attributes:
        vectors: (R, D), a tensor with orthonormal rows in the features' dtype.
        values: (R,), float64.
        tail: the mean of the D - R other eigenvalues.
    """

    vectors: tf.Tensor
    values: Array
    tail: float


class Standardized:
    """Standardized features: minus their mean, divided by their standard deviation.

    Args:
        blocks: a function without arguments that iterates over (first row, features (n, D)) in
            order; called once per pass if the features are not kept.
        keep: whether to hold the result in the device's memory (N x D numbers).
        dtype: the dtype of the result and of computations with it, "float32" or "float64".

    Attributes:
        mean: (D,), float64.
        scale: (D,), float64: the standard deviations, but at least `FLOOR` times their median, and
            infinity for constant features. Without this minimum, a unit that is 0 for almost all
            training examples could be thousands of deviations from its mean for another example.
        examples: N.
        size: D.
        dtype: the NumPy dtype.
        kept: the tensor (N, D), or None.

    Raises:
        ValueError: features are so large that their squares overflow.
    """

    def __init__(self, blocks: Blocks, *, keep: bool = True, dtype: Any = "float32") -> None:
        self.dtype = np.dtype(dtype)
        self._blocks = blocks
        self.mean, self.scale, self.examples = _moments(blocks)
        self.size = len(self.mean)
        self.kept = None
        if keep:
            parts = [block for _, block in self.blocks()]
            self.kept = parts[0] if len(parts) == 1 else tf.concat(parts, 0)

    def blocks(self) -> Iterator[tuple[int, tf.Tensor]]:
        """Yields (first row, features (n, D)), in order."""
        if self.kept is not None:
            yield 0, self.kept
            return
        mean, inverse = (tf.constant(v, self.dtype) for v in (self.mean, 1 / self.scale))
        for first, block in self._blocks():
            yield first, _standardize(block, mean, inverse)

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """Returns an approximate `Spectrum` for preconditioners.

        Its accuracy affects only the number of steps of the solver. For up to 256 features it is
        computed from a subset of the examples; for more features, from their randomized Nystroem
        approximation A Z (Z'A Z)^-1 Z'A, where Z has D/4 columns within `RANKS`. For a ResNet-50's
        1,024 features it reduces the number of steps to a third. Using all of X'X saves hardly any
        more steps at twice the cost; the same is true of 256 columns for 512 features.

        #### References
        Frangella, Tropp and Udell: Randomized Nystroem preconditioning, SIAM J. Matrix Anal.
        Appl. 44(2), 2023.
        """
        stride = max(1, self.examples // ROWS)
        parts = [
            tf.gather(block, tf.range(-first % stride, len(block), stride))
            for first, block in self.blocks()
        ]
        rows = parts[0] if len(parts) == 1 else tf.concat(parts, 0)
        if self.size <= RANKS[1]:
            values, vectors = tf.linalg.eigh(tf.matmul(rows, rows, transpose_a=True) / len(rows))
            values = np.maximum(values, 0).astype(np.float64)
            return Spectrum(tf.transpose(vectors), values, 0.0)
        rank = int(np.clip(self.size // 4, *RANKS))
        z = np.random.default_rng(0).standard_normal((self.size, rank), self.dtype)
        az = tf.matmul(rows, rows @ z, transpose_a=True) / len(rows)
        z, az = tf.constant(z, tf.float64), tf.cast(az, tf.float64)
        # A small multiple of the identity keeps Z'A Z positive where A is 0 up to rounding.
        shift = 2 * np.finfo(self.dtype).eps * self.size
        az += shift * z
        zaz = tf.matmul(z, az, transpose_a=True)
        root = tf.linalg.cholesky((zaz + tf.transpose(zaz)) / 2)
        half = tf.linalg.triangular_solve(root, tf.matmul(az, az, transpose_a=True))
        values, vectors = tf.linalg.eigh(tf.linalg.triangular_solve(root, tf.transpose(half)))
        values = tf.maximum(values, shift)
        mix = tf.linalg.triangular_solve(root, vectors / tf.sqrt(values), adjoint=True)
        vectors = tf.cast(tf.matmul(mix, az, transpose_a=True, transpose_b=True), self.dtype)
        trace = float(tf.reduce_sum(tf.square(rows))) / len(rows)
        tail = (trace - float(tf.reduce_sum(values))) / (self.size - rank)
        return Spectrum(vectors, values.numpy(), max(0.0, tail))


def _moments(blocks: Blocks) -> tuple[Array, Array, int]:
    """Returns features' means and deviations (float64) and the number of examples, in one pass."""
    total: Any = 0.0
    square: Any = 0.0
    shift: Any = 0.0
    count, rows = 0, 128  # as many as can be summed in the features' own precision, and in cache
    for _, block in blocks():
        if not count:
            # Shifting by a typical value avoids cancellation in sums of squares.
            shift = block[:256].mean(0, dtype=np.float64).astype(block.dtype)
        for first in range(0, len(block), rows):
            with np.errstate(over="ignore", invalid="ignore"):  # checked below
                centered = block[first : first + rows] - shift
                total = total + centered.sum(0).astype(np.float64)
                square = square + np.einsum("nd,nd->d", centered, centered)
        count += len(block)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    mean = mean + shift
    # A constant feature has no information: an infinite scale excludes it.
    constant = deviation <= 10 * np.finfo(shift.dtype).eps * np.abs(mean)
    if not np.isfinite(deviation).all():
        feature, most = np.flatnonzero(~np.isfinite(deviation))[0], np.finfo(shift.dtype).max
        raise checks.invalid(
            f"Feature {feature}",
            f"within ±{most**0.5 / 100:.0e}, or its squares overflow",
            "a larger one",
            "Rescale the inputs, or check whether the network has diverged.",
        )
    floor = FLOOR * np.median(deviation[~constant]) if not constant.all() else 0.0
    return mean, np.where(constant, np.inf, np.maximum(deviation, floor)), count


@tf.function(autograph=False, reduce_retracing=True)
def _standardize(block: tf.Tensor, mean: tf.Tensor, inverse: tf.Tensor) -> tf.Tensor:
    return (tf.cast(block, mean.dtype) - mean) * inverse
