"""Corruption processes C(x~ | x), which add noise to examples before reconstruction.

    corruption = Gaussian(0.1)
    noisy = corruption.sample(x, seed=(0, 1))  # the same seed gives the same noise, on any device
    corruption.log_prob(noisy, x)  # log C(noisy | x), (n,)

A corruption takes a tensor x (n, ...) of a floating dtype and keeps its shape and dtype. Seeds are
pairs of integers, as in `tf.random.stateless_normal`. Keras saves and loads corruptions with
models.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import keras
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import TensorLike

# A pair of int32, as in `tf.random.stateless_normal`.
Seed: TypeAlias = Any


class Corruption:
    """Base class of corruption processes: frozen dataclasses, whose fields Keras saves."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def sample(self, x: TensorLike, seed: Seed) -> tf.Tensor:
        """Returns a corrupted x (n, ...)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, a JSON-serializable dict."""
        return {field: getattr(self, field) for field in self.__dataclass_fields__}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Returns a corruption from the result of `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Gaussian(Corruption):
    """x~ = x + sigma e with e ~ N(0, I).

    Attributes:
        sigma: the standard deviation, positive, in the units of x.
    """

    sigma: float

    def __post_init__(self) -> None:
        """Raises ValueError unless sigma is positive."""
        checks.positive_number("`sigma`", self.sigma)

    def sample(self, x: TensorLike, seed: Seed) -> tf.Tensor:
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        return x + self.sigma * tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)

    def log_prob(self, corrupted: TensorLike, x: TensorLike) -> tf.Tensor:
        """Returns the log density (n,) of corrupted examples (n, ...), given x (n, ...)."""
        x, corrupted = _pair(x, corrupted)
        squares = tf.square((corrupted - x) / tf.constant(self.sigma, x.dtype))
        constant = math.log(2 * math.pi) / 2 + math.log(self.sigma)
        return -_sum(squares / 2 + tf.constant(constant, x.dtype))


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class SaltAndPepper(Corruption):
    """Replaces each value, with a given probability, by `low` or `high` with equal chances.

    Attributes:
        probability: the probability that a value is replaced, in (0, 1].
        low, high: the smallest and the largest value of the data.
    """

    probability: float
    _: dataclasses.KW_ONLY
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError unless the probability is one."""
        checks.probability("`probability`", self.probability)
        _check_finite("`low`", self.low)
        _check_finite("`high`", self.high)

    def sample(self, x: TensorLike, seed: Seed) -> tf.Tensor:
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        u = _uniform(x, seed)
        value = tf.where(
            u < self.probability / 2,
            tf.constant(self.low, x.dtype),
            tf.constant(self.high, x.dtype),
        )
        return tf.where(u < self.probability, value, x)

    def log_prob(self, corrupted: TensorLike, x: TensorLike) -> tf.Tensor:
        """Returns the log probability (n,) of corrupted examples (n, ...), given x (n, ...).

        It is minus infinity if a value is neither unchanged nor `low` or `high`.
        """
        x, corrupted = _pair(x, corrupted)
        ways = [(x, 1 - self.probability)]
        ways += [(end, self.probability / 2) for end in (self.low, self.high)]
        return _log_of_ways(corrupted, ways)


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Masking(Corruption):
    """Replaces each value, with a given probability, by `value`.

    Attributes:
        probability: the probability that a value is replaced, in (0, 1].
        value: the replacement.
    """

    probability: float
    _: dataclasses.KW_ONLY
    value: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError unless the probability is one."""
        checks.probability("`probability`", self.probability)
        _check_finite("`value`", self.value)

    def sample(self, x: TensorLike, seed: Seed) -> tf.Tensor:
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        return tf.where(_uniform(x, seed) < self.probability, tf.constant(self.value, x.dtype), x)

    def log_prob(self, corrupted: TensorLike, x: TensorLike) -> tf.Tensor:
        """Returns the log probability (n,) of corrupted examples (n, ...), given x (n, ...).

        It is minus infinity if a value is neither unchanged nor `value`.
        """
        x, corrupted = _pair(x, corrupted)
        return _log_of_ways(corrupted, [(x, 1 - self.probability), (self.value, self.probability)])


@keras.saving.register_keras_serializable(package="thesis_tf")
@dataclasses.dataclass(frozen=True)
class Block(Corruption):
    """Replaces a rectangle at a random position of each image by `value`, for in-painting.

    Its probabilities have no simple form if x has values equal to `value`, so there is no
    `log_prob`.

    Attributes:
        height: the height of the rectangle, in pixels.
        width: the width of the rectangle, in pixels.
        value: the replacement.
    """

    height: int
    width: int
    _: dataclasses.KW_ONLY
    value: float = 0.0

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError unless height and width are positive integers."""
        checks.positive_integer("`height`", self.height)
        checks.positive_integer("`width`", self.width)
        _check_finite("`value`", self.value)

    def sample(self, x: TensorLike, seed: Seed) -> tf.Tensor:
        """Returns corrupted images x (n, height, width) or (n, height, width, channels).

        Raises:
            ValueError: x has another rank, or the rectangle is larger than an image.
        """
        x = _floating(x)
        rank, room = x.shape.rank, tuple(x.shape[1:3])
        if rank not in (3, 4) or self.height > room[0] or self.width > room[1]:
            expected = f"images (n, height, width[, channels]) of at least {self.height} x"
            raise checks.invalid(
                "`x`",
                f"{expected} {self.width}",
                f"shape {tuple(x.shape)}",
                "Use a smaller Block, or Masking for data that aren't images.",
            )
        inside = []
        for axis, (size, length) in enumerate(zip(room, (self.height, self.width), strict=True)):
            start = tf.random.stateless_uniform(
                [tf.shape(x)[0], 1],
                tf.random.experimental.stateless_fold_in(seed, axis),
                maxval=size - length + 1,
                dtype=tf.int32,
            )
            place = tf.range(size)
            inside.append((place >= start) & (place < start + length))
        block = inside[0][:, :, tf.newaxis] & inside[1][:, tf.newaxis]
        block = block[..., tf.newaxis] if rank == 4 else block
        return tf.where(block, tf.constant(self.value, x.dtype), x)


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise checks.invalid(name, "a finite number", value)


def _uniform(x: tf.Tensor, seed: Seed) -> tf.Tensor:
    # With at least 24 bits: with the 8 bits of bfloat16, a probability of 0.001 would be 0.0039.
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    return tf.random.stateless_uniform(tf.shape(x), seed, dtype=dtype)


def _pair(x: Any, corrupted: Any) -> tuple[tf.Tensor, tf.Tensor]:
    x, corrupted = _floating(x), tf.convert_to_tensor(corrupted)
    if corrupted.dtype != x.dtype or not corrupted.shape.is_compatible_with(x.shape):
        raise checks.invalid(
            "`corrupted`",
            f"{x.dtype.name} of shape {tuple(x.shape)}, as `x` is",
            f"{corrupted.dtype.name} of shape {tuple(corrupted.shape)}",
        )
    return x, corrupted


def _log_of_ways(corrupted: tf.Tensor, ways: list[tuple[Any, float]]) -> tf.Tensor:
    """Sums the logs of each value's probability, over the ways (value, probability) to get it."""
    total = tf.zeros_like(corrupted)
    for value, probability in ways:
        total += tf.where(corrupted == value, tf.constant(probability, corrupted.dtype), 0)
    return _sum(tf.math.log(total))


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))


def _floating(values: TensorLike) -> tf.Tensor:
    x = tf.convert_to_tensor(values)
    if not x.dtype.is_floating:
        advice = "Convert it: tf.cast(x, tf.float32), pixels divided by 255."
        raise checks.invalid("`x`", "of a floating dtype", x.dtype.name, advice, kind=TypeError)
    return x
