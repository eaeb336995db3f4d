"""Corruption processes C(x~ | x): what noise does to examples before they are reconstructed.

    corruption = Gaussian(0.1)
    noisy = corruption.sample(x, seed=(0, 1))  # the same seed gives the same noise, on any device

Each takes a tensor x (n, ...) of a floating dtype and keeps its shape and dtype. Seeds are pairs of
integers, as in `tf.random.stateless_normal`.
"""

import dataclasses

import tensorflow as tf

from thesis_tf import _checks


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """x~ = x + sigma e with e ~ N(0, I).

    Attributes:
        sigma: the standard deviation, positive, in the units of x.
    """

    sigma: float

    def __post_init__(self):
        """Raises ValueError unless sigma is positive."""
        _checks.positive_number("`sigma`", self.sigma)

    def sample(self, x, seed):
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        return x + self.sigma * tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype)


@dataclasses.dataclass(frozen=True)
class SaltAndPepper:
    """Each value becomes, with a probability, `low` or `high`, each as often.

    Attributes:
        probability: that a value is replaced, in (0, 1].
        low, high: the least and the largest value of the data.
    """

    probability: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        """Raises ValueError unless the probability is one."""
        _checks.probability("`probability`", self.probability)

    def sample(self, x, seed):
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        u = _uniform(x, seed)
        value = tf.where(
            u < self.probability / 2,
            tf.constant(self.low, x.dtype),
            tf.constant(self.high, x.dtype),
        )
        return tf.where(u < self.probability, value, x)


@dataclasses.dataclass(frozen=True)
class Masking:
    """Each value becomes, with a probability, `value`.

    Attributes:
        probability: that a value is replaced, in (0, 1].
        value: by what.
    """

    probability: float
    value: float = 0.0

    def __post_init__(self):
        """Raises ValueError unless the probability is one."""
        _checks.probability("`probability`", self.probability)

    def sample(self, x, seed):
        """Returns a corrupted x (n, ...)."""
        x = _floating(x)
        return tf.where(_uniform(x, seed) < self.probability, tf.constant(self.value, x.dtype), x)


def _uniform(x, seed):
    # In 24 bits at least: of bfloat16's 8 a probability of .001 would become .0039.
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    return tf.random.stateless_uniform(tf.shape(x), seed, dtype=dtype)


def _floating(x):
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        advice = "Convert it: tf.cast(x, tf.float32), pixels divided by 255."
        raise _checks.invalid("`x`", "of a floating dtype", x.dtype.name, advice, TypeError)
    return x
