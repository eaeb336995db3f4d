"""Gaussian noise of more than one size, which keeps spurious attractors away (thesis, 3.4.3).

A DAE trained with a small sigma never sees a point far from the data, and what r does there is
left to chance. Larger noise shows it such points: at first, or all the time at a lower weight.
"""

import collections
import math

import tensorflow as tf

from thesis_tf import corruption
from thesis_tf._core import checks

Draw = collections.namedtuple("Draw", ["x", "weights", "sigma"])
Draw.__doc__ = """Corrupted examples (n, ...), weights (n,) of their losses or None, and the
standard deviation (n,) or () of their noise, or None if it isn't Gaussian."""


class Schedule:
    """A corruption that may change over training and weight its examples; this one does neither.

    Args:
        process: an object with `sample(x, seed)`.
    """

    def __init__(self, process):
        self._process = process

    @staticmethod
    def of(given):
        """Returns `given` as a Schedule: one, a corruption, or the sigma of Gaussian noise."""
        if isinstance(given, Schedule):
            return given
        if not hasattr(given, "sample"):
            given = corruption.Gaussian(checks.positive_number("`corruption`", given))
        return Schedule(given)

    def draw(self, x, seed, step=0):
        """Returns a `Draw` for a batch x (n, ...) at a training step."""
        return Draw(self._process.sample(x, seed), None, getattr(self._process, "sigma", None))


class DecreasingNoise(Schedule):
    """Gaussian noise whose standard deviation falls geometrically over training steps.

    sigma = start (end / start)^(step / steps), and `end` after `steps` steps.

    Args:
        start: the first standard deviation.
        end: the last; below `start`.
        steps: how many training steps it takes.
    """

    def __init__(self, start, end, steps):
        self.end, self.start = _range(end, start, "`end`", "`start`")
        self.steps = checks.positive_integer("`steps`", steps)

    def sigma(self, step):
        """Returns the standard deviation at a step, a float32 scalar."""
        done = tf.minimum(tf.cast(step, tf.float32) / self.steps, 1.0)
        return self.start * tf.exp(done * math.log(self.end / self.start))

    def draw(self, x, seed, step=0):
        """Returns a `Draw` for a batch x (n, ...) at a training step."""
        sigma = tf.cast(self.sigma(step), x.dtype)
        noise = tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)
        return Draw(x + sigma * noise, None, sigma)


class SampledNoise(Schedule):
    """Gaussian noise with a standard deviation drawn for each example, and importance weights.

    A part `share` of the examples gets a sigma that is log-uniform on [low, high], the others get
    `low`. The loss has the weight sigma^-power, divided by the mean of that. So what is minimised
    is the loss under a density of sigma proportional to that of the draws times sigma^-power, in
    which noise as large as `high` hardly counts, while far points are seen as often as near ones:
    near the data r is that of sigma = low, and where noise of `low` never leads it points back.

    Args:
        low: the standard deviation that the score is wanted for.
        high: the largest one, say the distance from which r should find back.
        power: of the weights; 0 weights all alike. The default, 2, puts losses in units of their
            noise's variance.
        share: of the examples, in (0, 1].
    """

    def __init__(self, low, high, power=2.0, share=0.5):
        self.low, self.high = _range(low, high, "`low`", "`high`")
        if not (math.isfinite(power) and power >= 0):
            raise checks.invalid("`power`", "a finite number, at least 0", power)
        self.power, self.share = float(power), checks.probability("`share`", share)

    def draw(self, x, seed, step=0):
        """Returns a `Draw` for a batch x (n, ...); `step` is of no influence."""
        seeds = tf.random.experimental.stateless_split(seed, 2)
        u = tf.random.stateless_uniform([tf.shape(x)[0]], seeds[0], dtype=tf.float32)
        # Uniform on [0, 1] for the share, 0 for the others.
        u = tf.maximum(0.0, (u - (1 - self.share)) / self.share)
        span = math.log(self.high / self.low)
        decay = self.power * span
        mean = -math.expm1(-decay) / decay if decay else 1.0  # of exp(-decay u), u ~ U(0, 1)
        weights = tf.exp(-decay * u) / (self.share * mean + 1 - self.share)
        sigma = tf.cast(self.low * tf.exp(u * span), x.dtype)
        noise = tf.random.stateless_normal(tf.shape(x), seeds[1], dtype=x.dtype)
        scale = tf.reshape(sigma, [-1] + [1] * (x.shape.rank - 1))
        return Draw(x + scale * noise, tf.cast(weights, x.dtype), sigma)


def _range(low, high, low_name, high_name):
    low, high = (
        checks.positive_number(low_name, low),
        checks.positive_number(high_name, high),
    )
    if not low < high:
        raise checks.invalid(low_name, f"below {high_name}, {high:g}", f"{low:g}")
    return low, high
