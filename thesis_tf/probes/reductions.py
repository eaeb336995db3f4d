"""From an activation of any shape to a feature vector that a linear probe can afford (9.3.4).

The first ReLU of a ResNet-50 puts out 802,816 numbers an image: a probe of 1,000 classes on them
would have more parameters than the network has twenty times over.
"""

import dataclasses
import math
import zlib

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks

KINDS = ("mean", "subset", "projection", "flatten", "last", "time_mean")
RANDOM = ("subset", "projection")  # drawn once, of a size
DEFAULT_SIZE = 1000  # section 9.3.4


@dataclasses.dataclass(frozen=True)
class Reduction:
    """A fixed map from activations (batch, ...) to features (batch, D).

    Attributes:
        kind: how.
            mean: the mean over all axes between the first and the last (over space for images,
                over time for sequences, where masked steps don't count).
            subset: `size` coordinates of the flattened activation, drawn once; all of them where
                there are no more.
            projection: `size` sums of disjoint random groups of coordinates with random signs (a
                count sketch with equal buckets): linear, keeps inner products in expectation, and
                costs one pass over the activation where a dense projection of a large one would
                not fit in memory. The identity where there are no more than `size`.
            flatten: every coordinate.
            last: the last time step (the last that is not masked), flattened.
            time_mean: the mean over the second axis alone, flattened.
        size: the number of features of a subset or projection.
        seed: what the subset or projection is drawn from, together with the tap's name.
    """

    kind: str = "mean"
    size: int = DEFAULT_SIZE
    seed: int = 0

    def __post_init__(self):
        """Checks the fields."""
        checks.one_of("`reduction`", self.kind, KINDS)
        checks.positive_integer("`reduction` size", self.size)
        if self.seed < 0:
            raise checks.invalid("`reduction` seed", "at least 0", self.seed)

    @classmethod
    def parse(cls, text, seed=0):
        """Reads "mean", "subset", "subset:500", ...; passes a `Reduction` through."""
        if isinstance(text, cls):
            return text
        kind, _, size = str(text).partition(":")
        if size and (kind not in RANDOM or not size.isdecimal()):
            raise checks.invalid(
                "`reduction`",
                "a name, with a size where it takes one, e.g. 'subset:1000'",
                repr(text),
            )
        if kind not in RANDOM:
            return cls(kind)
        return cls(kind, int(size) if size else DEFAULT_SIZE, seed)

    def __str__(self):
        """The text that `parse` reads."""
        return f"{self.kind}:{self.size}" if self.kind in RANDOM else self.kind

    def features(self, tap):
        """The number of features that this makes of a `Tap`.

        Raises:
            ValueError: the tap's shape does not suit, e.g. `flatten` of an unknown length.
        """
        shape = tap.shape[1:]
        if self.kind == "mean":
            shape = shape[-1:]
        elif self.kind in ("last", "time_mean"):
            if len(shape) < 2:
                raise checks.invalid(
                    f"`reduction` {self.kind!r}: tap {tap.name!r}",
                    "(batch, time, ...)",
                    tap.shape,
                    "Choose taps that have a time axis, by name or as in 'class:LSTM', or 'mean'.",
                )
            shape = shape[1:]
        if None in shape:
            raise checks.invalid(
                f"`reduction` {self.kind!r}: tap {tap.name!r}",
                "of a fixed size",
                tap.shape,
                "Use 'mean', or give the model inputs of one size.",
            )
        size = math.prod(shape)
        return min(size, self.size) if self.kind in RANDOM else size

    def __call__(self, tensor, name):
        """Reduces an activation; call it inside a `tf.function`.

        Args:
            tensor: an activation (batch, ...) of any numeric dtype, with its Keras mask if any.
            name: the tap's name, which seeds the subset or projection.

        Returns:
            (batch, D), float64 for a float64 activation and float32 for all others.
        """
        mask = getattr(tensor, "_keras_mask", None)
        if tensor.dtype != tf.float64:
            tensor = tf.cast(tensor, tf.float32)
        rank = tensor.shape.rank
        if rank == 1:
            return tensor[:, tf.newaxis]
        if rank == 2:
            mask = None
        if self.kind == "mean":
            # The mean over time with the mask first, so that what remains is not masked.
            if mask is not None:
                tensor, rank = _masked_mean(tensor, mask), rank - 1
            for _ in range(rank - 2):
                tensor = tf.reduce_mean(tensor, 1)  # on CPUs up to twice as fast as all at once
            return tensor
        if self.kind == "time_mean":
            tensor = tf.reduce_mean(tensor, 1) if mask is None else _masked_mean(tensor, mask)
        elif self.kind == "last":
            tensor = tensor[:, -1] if mask is None else _last_unmasked(tensor, mask)
        flat = tf.reshape(tensor, [-1, math.prod(tensor.shape[1:])])
        size = flat.shape[1]
        if self.kind not in RANDOM or size <= self.size:
            return flat
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        if self.kind == "subset":
            return tf.gather(flat, np.sort(rng.choice(size, self.size, replace=False)), axis=1)
        order = rng.permutation(size)
        signs = tf.constant(rng.choice([-1.0, 1.0], size), flat.dtype)
        bucket = -(-size // self.size)
        signed = tf.pad(
            tf.gather(flat * signs, order, axis=1), [[0, 0], [0, bucket * self.size - size]]
        )
        return tf.reduce_sum(tf.reshape(signed, [-1, bucket, self.size]), 1)


def _masked_mean(tensor, mask):
    """The mean over axis 1 of the steps where the mask (batch, time) is true; 0 if none is."""
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (tensor.shape.rank - 2)], 0))
    count = tf.reduce_sum(tf.cast(mask, tensor.dtype), 1)
    # Not a product: a masked step may hold anything, NaN as well.
    total = tf.reduce_sum(tf.where(mask, tensor, tf.zeros((), tensor.dtype)), 1)
    return tf.math.divide_no_nan(total, count)


def _last_unmasked(tensor, mask):
    """The last step along axis 1 where the mask (batch, time) is true; the first if none is."""
    steps = tf.range(tf.shape(mask)[1])
    last = tf.reduce_max(tf.where(mask, steps, 0), 1)
    return tf.gather(tensor, last, axis=1, batch_dims=1)
