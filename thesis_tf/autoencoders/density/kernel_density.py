"""The best possible DAE of a finite training set, in closed form: a kernel density."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import TensorLike
from thesis_tf.autoencoders.density.array_kind import same_kind

_BLOCK_ELEMENTS = 1 << 22  # the number of kernel values computed at once: 32 MB in float64
_MOST_SIGMAS = 1e7  # with a larger extent, rounding changes log p by more than a tenth of a nat


class KernelDensity:
    """The training set smoothed by the noise, p_sigma(x) = mean of N(x; x_i, sigma^2 I).

    Its mean reconstruction E[x_i | x] minimizes the denoising loss on these examples over all
    functions (Eq 3.3 with the empirical density), so auto-encoders are compared with it:
    `ScoreEstimator(KernelDensity(data, sigma).reconstruct, sigma=sigma)`.

    Methods return tensors for tensors and NumPy arrays for NumPy arrays, of the dtype of the
    points. They compute in float64, whose rounding changes log p by about 1e-15 (extent / sigma)^2
    nats, for data of any extent. They compare points with all examples, in blocks, by matrix
    products: 2 n N d operations. For 10,000 points and 10,000 examples in two dimensions, this
    takes a second on two cores.

    Args:
        data: (N, ...) training examples of a floating dtype.
        sigma: the standard deviation of the noise, positive.

    Raises:
        ValueError: sigma is so small, compared with the extent of the data, that distances in units
            of sigma can't be computed in float64.
    """

    def __init__(self, data: TensorLike, sigma: float) -> None:
        data = arrays.checked_points("`data`", data, at_least=1)
        self.sigma = checks.positive_number("`sigma`", sigma)
        self._dtype = data.dtype
        # Centered and in units of sigma, so that the squares that are subtracted stay small.
        # Float32 has too few digits for them where sigma is below a tenth of the data's extent.
        wide = tf.cast(data, tf.float64)
        self._center = tf.reduce_mean(wide, axis=0, keepdims=True)
        self._scaled = arrays.flat(wide - self._center) / self.sigma
        extent = float(tf.reduce_max(tf.norm(self._scaled, axis=1)))
        if not extent < _MOST_SIGMAS:
            raise checks.invalid(
                "`sigma`",
                f"above {self.sigma * extent / _MOST_SIGMAS:.2g} for these data, which extend over"
                f" {2 * self.sigma * extent:.2g}",
                sigma,
            )
        self._block = max(1, _BLOCK_ELEMENTS // len(data))

    @same_kind
    def reconstruct(self, x: TensorLike) -> Any:
        """Returns E[x_i | x] (n, ...) for points x (n, ...)."""
        x = self._checked(x)
        wide = tf.cast(x, tf.float64)
        return tf.cast(wide + self.sigma**2 * self._score(wide), x.dtype)

    @same_kind
    def score(self, x: TensorLike) -> Any:
        """Returns d log p_sigma / dx (n, ...) for points x (n, ...)."""

        x = self._checked(x)
        return tf.cast(self._score(tf.cast(x, tf.float64)), x.dtype)

    @same_kind
    def log_prob(self, x: TensorLike) -> Any:
        """Returns log p_sigma (n,) for points x (n, ...)."""
        x = self._checked(x)
        count, size = self._scaled.shape
        constant = math.log(count) + size * (math.log(2 * math.pi) / 2 + math.log(self.sigma))
        found = self._by_blocks(lambda b: tf.reduce_logsumexp(self._exponents(b), 1), x)
        return tf.cast(found - constant, x.dtype)

    def _score(self, x: tf.Tensor) -> tf.Tensor:
        def of_block(block: tf.Tensor) -> tf.Tensor:
            mean = tf.nn.softmax(self._exponents(block)) @ self._scaled
            return mean - block

        return tf.reshape(self._by_blocks(of_block, x), tf.shape(x)) / self.sigma

    def _exponents(self, scaled: tf.Tensor) -> tf.Tensor:
        squared = [tf.reduce_sum(tf.square(a), axis=1) / 2 for a in (scaled, self._scaled)]
        cross = tf.matmul(scaled, self._scaled, transpose_b=True)
        return cross - squared[0][:, tf.newaxis] - squared[1]

    def _checked(self, x: TensorLike) -> tf.Tensor:
        x = arrays.checked_points("`x`", x)
        if x.dtype != self._dtype or x.shape[1:] != self._center.shape[1:]:
            raise checks.invalid(
                "`x`",
                f"{self._dtype.name} points of shape {tuple(self._center.shape[1:])}, as `data`",
                f"{x.dtype.name} of shape {tuple(x.shape)}",
            )
        return x

    def _by_blocks(self, function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        scaled = arrays.flat(tf.cast(x, tf.float64) - self._center) / self.sigma
        count, block = tf.shape(scaled)[0], self._block
        if x.shape[0] is not None and x.shape[0] <= block:
            return function(scaled)
        blocks = (count + block - 1) // block
        padded = tf.pad(scaled, [[0, blocks * block - count], [0, 0]])
        values = tf.map_fn(function, tf.reshape(padded, [blocks, block, int(np.prod(x.shape[1:]))]))
        return tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], axis=0))[:count]
