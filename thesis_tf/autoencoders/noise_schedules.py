"""Gaussian noise of several sizes, which prevents spurious attractors (thesis, 3.4.3).

A DAE trained with a small sigma never sees points far from the data, so r is arbitrary there.
Larger noise produces such points, either early in training or always with a lower weight.
"""

import math
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from thesis_tf import corruption
from thesis_tf._core import checks


class SupportsSample(Protocol):
    """What a schedule needs of a corruption: those of `thesis_tf.corruption` have more."""

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns corrupted examples (n, ...) of a batch x (n, ...)."""


class CorruptedBatch(NamedTuple):
    """Corrupted examples.

    Attributes:
        x: (n, ...), the corrupted examples.
        importance_weights: (n,) factors of their losses; None for equal weights.
        sigma: (n,) or (), the standard deviation of the noise; None if it isn't Gaussian.
    """

    x: tf.Tensor
    importance_weights: tf.Tensor | None
    sigma: Any


class NoiseSchedule:
    """A corruption that may change during training and have importance weights.

    This base class does neither.

    Args:
        process: an object with `sample(x, seed)`.
    """

    def __init__(self, process: SupportsSample) -> None:
        self._process = process

    @staticmethod
    def of(given: "NoiseSchedule | SupportsSample | float") -> "NoiseSchedule":
        """Returns `given` as a schedule; a number is the sigma of Gaussian noise."""
        if isinstance(given, NoiseSchedule):
            return given
        process: Any = given
        if not hasattr(given, "sample"):
            process = corruption.Gaussian(checks.positive_number("`corruption`", given))
        return NoiseSchedule(process)

    def draw(self, x: tf.Tensor, seed: tf.Tensor, *, step: int | tf.Tensor = 0) -> CorruptedBatch:
        """Corrupts a batch x (n, ...) at a training step; `seed` is a pair of integers."""
        sigma = getattr(self._process, "sigma", None)
        return CorruptedBatch(self._process.sample(x, seed), None, sigma)


class DecreasingNoise(NoiseSchedule):
    """Gaussian noise whose standard deviation decreases geometrically over training steps.

    sigma = initial (final / initial)^(step / num_steps), and `final` after `num_steps` steps.

    Args:
        initial: the standard deviation at the first step.
        final: the standard deviation from step `num_steps` on; below `initial`.
        num_steps: the number of training steps over which it decreases.
    """

    def __init__(self, initial: float, final: float, *, num_steps: int) -> None:
        self.final, self.initial = _range(final, initial, "`final`", "`initial`")
        self.num_steps = checks.positive_integer("`num_steps`", num_steps)

    def sigma(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the standard deviation at a step, a float32 scalar."""
        done = tf.minimum(tf.cast(step, tf.float32) / self.num_steps, 1.0)
        return self.initial * tf.exp(done * math.log(self.final / self.initial))

    def draw(self, x: tf.Tensor, seed: tf.Tensor, *, step: int | tf.Tensor = 0) -> CorruptedBatch:
        """Corrupts a batch x (n, ...) at a training step; `seed` is a pair of integers."""
        sigma = tf.cast(self.sigma(step), x.dtype)
        noise = tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)
        return CorruptedBatch(x + sigma * noise, None, sigma)


class SampledNoise(NoiseSchedule):
    """Gaussian noise with a standard deviation drawn for each example, and importance weights.

    A `fraction` of the examples gets a sigma that is log-uniform on [low, high], the others get
    `low`. The loss has the weight sigma^-power, divided by its mean. This minimizes the loss under
    a density of sigma that is proportional to the density of the draws times sigma^-power. In this
    density noise as large as `high` has little weight, although far points are as frequent as near
    points. So near the data, r is the same as for sigma = low, and at points that noise of `low`
    can't reach, r leads back to the data.

    Args:
        low: the standard deviation for which the score is estimated.
        high: the largest standard deviation, for example the distance from which r should lead back
            to the data.
        power: the power of the weights; 0 for equal weights. With the default, 2, losses are in
            units of the variance of their noise.
        fraction: the fraction of the examples with a random sigma, in (0, 1].
    """

    def __init__(
        self, low: float, high: float, *, power: float = 2.0, fraction: float = 0.5
    ) -> None:
        self.low, self.high = _range(low, high, "`low`", "`high`")
        if not (math.isfinite(power) and power >= 0):
            raise checks.invalid("`power`", "a finite number, at least 0", power)
        self.power, self.fraction = float(power), checks.probability("`fraction`", fraction)

    def draw(self, x: tf.Tensor, seed: tf.Tensor, *, step: int | tf.Tensor = 0) -> CorruptedBatch:
        """Corrupts a batch x (n, ...); `seed` is a pair of integers, `step` is ignored."""
        seeds = tf.random.experimental.stateless_split(seed, 2)
        u = tf.random.stateless_uniform([tf.shape(x)[0]], seeds[0], dtype=tf.float32)
        # Uniform on [0, 1] for a `fraction` of the examples, 0 for the others.
        u = tf.maximum(0.0, (u - (1 - self.fraction)) / self.fraction)
        span = math.log(self.high / self.low)
        decay = self.power * span
        mean = -math.expm1(-decay) / decay if decay else 1.0  # of exp(-decay u), u ~ U(0, 1)
        weights = tf.exp(-decay * u) / (self.fraction * mean + 1 - self.fraction)
        sigma = tf.cast(self.low * tf.exp(u * span), x.dtype)
        noise = tf.random.stateless_normal(tf.shape(x), seeds[1], dtype=x.dtype)
        scale = tf.reshape(sigma, [-1] + [1] * (x.shape.rank - 1))
        return CorruptedBatch(x + scale * noise, tf.cast(weights, x.dtype), sigma)


def _range(low: float, high: float, low_name: str, high_name: str) -> tuple[float, float]:
    low, high = (
        checks.positive_number(low_name, low),
        checks.positive_number(high_name, high),
    )
    if not low < high:
        raise checks.invalid(low_name, f"below {high_name}, {high:g}", f"{low:g}")
    return low, high
