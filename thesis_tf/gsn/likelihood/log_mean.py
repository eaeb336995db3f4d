"""The log of the mean of exp k(h, x) over many samples h, for many points x, in bounded memory."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from thesis_tf._core.types import Array, ArrayLike, Verbose
from thesis_tf.reporting import progress

# A function of samples (n, ...) and points (m, ...) to (n, m).
Exponent: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# The numbers of samples and of points in a block whose pairs are computed at once: 16 MB in
# float32. Larger matrix products are not faster, and these still fit mostly into the caches.
_BLOCK = 2000
_BLOCK_RESULTS = 1 << 22  # the most results (chain, scale, point) of a block: 32 MB in float64
_FEWEST_POINTS = 64
_PARTS = range(8, 17)  # candidate numbers of parts of the steps; see `_log_sum_exp`
_NOTHING = -1e30  # the exponent's value for samples that only pad a block


class SampleBlocks:
    """The samples of chains, divided into blocks of one static shape.

    Args:
        samples: (chains, steps, ...) tensor.
    """

    def __init__(self, samples: tf.Tensor) -> None:
        self.chains, self.steps = samples.shape[:2]
        self._length = _even(self.steps, _BLOCK)
        self._together = _even(self.chains, max(1, _BLOCK // self._length))
        # One chain after the other, so that the sum over the steps of a chain is a sum over rows.
        self._blocks = [
            [
                _filled(
                    samples[chain : chain + self._together, step : step + self._length],
                    (self._together, self._length),
                )
                for step in range(0, self.steps, self._length)
            ]
            for chain in range(0, self.chains, self._together)
        ]

    def log_mean_exp(self, exponent: Exponent, points: tf.Tensor, scales: ArrayLike) -> Array:
        """Returns log mean_t exp(scale k(h_t, x)) over the steps t of each chain.

        Args:
            exponent: a function of samples (n, ...) and points (m, ...) to k, (n, m).
            points: (m, ...) tensor.
            scales: (chains, scales) array, the positive factors of k for each chain.

        Returns:
            (chains, scales, m) float64 array.
        """
        factors = _filled(tf.constant(scales, tf.float64), (len(self._blocks) * self._together,))
        results = np.empty([*factors.shape, len(points)])
        with _all_digits():
            for number, pieces in enumerate(self._blocks):
                place = slice(number * self._together, (number + 1) * self._together)
                for piece, block in enumerate(pieces):
                    there = min(self._length, self.steps - piece * self._length)
                    sums = self._log_sums(exponent, block, there, points, factors[place]).numpy()
                    results[place] = np.logaddexp(results[place], sums) if piece else sums
        results -= np.log(self.steps)
        return results[: self.chains]

    def _log_sums(
        self, exponent: Exponent, block: tf.Tensor, there: int, points: tf.Tensor, scales: tf.Tensor
    ) -> tf.Tensor:
        rows = self._together * self._length
        values = exponent(tf.reshape(block, [rows, *block.shape[2:]]), points)
        values = tf.reshape(values, [self._together, self._length, len(points)])
        if there < self._length:
            filling = np.where(np.arange(self._length) < there, 0, _NOTHING)[:, np.newaxis]
            values += tf.constant(filling, values.dtype)
        return _log_sum_exp(self._length)(values, scales)


def point_blocks(
    points: tf.Tensor, results: int, *, verbose: Verbose = "auto", description: str | None = None
) -> Iterator[tuple[slice, tf.Tensor]]:
    """Divides points into blocks of one static shape, for `SampleBlocks.log_mean_exp`.

    Args:
        points: (n, ...) tensor.
        results: the number of results for each point: chains times scales.
        verbose: as for `progress.bar`.
        description: the text of the progress bar.

    Yields:
        (slice, block): the block holds the points of the slice; the last block is padded with
            zeros.
    """
    size = _even(len(points), min(_BLOCK, max(_FEWEST_POINTS, _BLOCK_RESULTS // results)))
    with progress.bar(verbose, total=len(points), description=description, unit="point") as bar:
        for start in range(0, len(points), size):
            place = slice(start, min(start + size, len(points)))
            yield place, _filled(points[place], (size,))
            bar.update(place.stop - start)


def over_chains(values: Array) -> Array:
    """Returns log mean exp over the first axis of a float64 array, which it overwrites."""
    top = values.max(axis=0)
    values -= top
    return np.log(np.exp(values, out=values).mean(axis=0)) + top


@functools.cache
def _log_sum_exp(steps: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function from k (chains, steps, points) and scales (chains, scales).

    Its result is log sum_t exp(scale k_t), (chains, scales, points) float64.
    """
    # Each k needs one exponential per scale. With an explicit sum of `parts` terms, XLA fuses the
    # exponentials and the sum. It passes a plain sum over steps to a library, for which all
    # exponentials are written to memory. Matrix products are computed outside of this function:
    # on a CPU, those of XLA are slower.
    parts = min(_PARTS, key=lambda p: (steps % p, -p)) if steps >= min(_PARTS) else steps
    rows = steps // parts

    @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
    def log_sum_exp(values: tf.Tensor, scales: tf.Tensor) -> tf.Tensor:
        # For any positive scale, the largest value has the largest term.
        top = tf.reduce_max(values, axis=1, keepdims=True)
        factors = tf.cast(scales, values.dtype)[:, tf.newaxis, :, tf.newaxis]

        def sum_of(start: int, size: int, of: int = 1) -> tf.Tensor:
            slices = [values[:, start + i * size : start + (i + 1) * size] for i in range(of)]
            terms = [tf.exp(factors * (s - top)[:, :, tf.newaxis]) for s in slices]
            return tf.reduce_sum(sum(terms), axis=1)

        sums = sum_of(0, rows, parts)
        if steps % parts:
            sums += sum_of(parts * rows, steps % parts)
        # In float32, this product would lose digits that the difference above preserved.
        shift = scales[:, :, tf.newaxis] * tf.cast(top, tf.float64)
        return tf.cast(tf.math.log(sums), tf.float64) + shift

    return log_sum_exp


@contextlib.contextmanager
def _all_digits() -> Iterator[None]:
    """Disables reduced-precision matrix products, such as TF32, on GPUs and TPUs.

    Distances are small differences of large products, so they need the full precision of float32.
    """
    options = tf.config.experimental
    enabled = options.tensor_float_32_execution_enabled()
    options.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        options.enable_tensor_float_32_execution(enabled)


def _even(count: int, most: int) -> int:
    """Returns the size of equal blocks for `count` items: the fewest blocks of at most `most`."""
    blocks = -(-count // most)
    return -(-count // blocks)


def _filled(x: tf.Tensor, shape: Any) -> tf.Tensor:
    """Returns x padded with zeros at the end, up to `shape` along its first axes."""
    padding = [[0, size - there] for size, there in zip(shape, x.shape, strict=False)]
    if not np.any(padding):
        return x
    return tf.pad(x, padding + [[0, 0]] * (x.shape.rank - len(shape)))
