"""Reductions from outputs of any shape to feature vectors small enough for a linear probe (9.3.4).

The first ReLU of a ResNet-50 returns 802,816 numbers per image: a probe for 1,000 classes would
have more than twenty times as many parameters as the network.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from thesis_tf._core import checks, seeds

if TYPE_CHECKING:
    from thesis_tf.probes.taps import Tap

DEFAULT_SIZE = 1000  # section 9.3.4
_LARGEST_INTEGER = 2.0**24  # up to which float32 holds all integers

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of reduction; see `register`."""

    shape: Callable[[Shape], Shape]
    reduce: Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor] | None
    draw: Callable[[tf.Tensor, int, np.random.Generator], tf.Tensor] | None
    least_rank: int


KINDS: dict[str, Kind] = {}


def register(
    name: str,
    *,
    shape: Callable[[Shape], Shape] = lambda shape: shape,
    reduce: Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor] | None = None,
    draw: Callable[[tf.Tensor, int, np.random.Generator], tf.Tensor] | None = None,
    least_rank: int = 0,
) -> None:
    """Adds a kind of reduction for `extract(reduction=NAME)` and `--reduction=NAME`.

    For example, the standard deviation over space is

        def deviation(tensor, mask):
            return tf.math.reduce_std(tensor, range(1, tensor.shape.rank - 1))

        register("deviation", shape=lambda shape: shape[-1:], reduce=deviation)

    Args:
        name: the name of the kind.
        shape: a function from the shape of one example's output, with None for unknown axes, to
            the shape of the result of `reduce`, whose axes must all be known.
        reduce: a function from outputs (batch, ...) and a mask (batch, time) of bool for their axis
            1, or None if all steps count, to (batch, *shape), which is then flattened. It runs
            inside a `tf.function`, on outputs of rank 2 or more in float32 or float64. None leaves
            outputs as they are, masked steps as well.
        draw: for a kind with a size ("NAME:SIZE"), a function from the flattened outputs (batch,
            D), the size and a random number generator, seeded by the tap's name, to (batch, size).
            It is called if D is larger than the size.
        least_rank: the minimum number of axes of an example's output, such as 2 for (time,
            channels).
    """
    KINDS[name] = Kind(shape, reduce, draw, least_rank)


@dataclasses.dataclass(frozen=True)
class Reduction:
    """A fixed map from outputs (batch, ...) to features (batch, D).

    Attributes:
        kind: one of
            mean: the mean over all axes between the first and the last (over space for images,
                over time for sequences, where masked steps don't count).
            subset: `size` random coordinates of the flattened output, chosen once; all of them if
                there are at most `size`.
            projection: `size` sums of disjoint random groups of coordinates with random signs (a
                count sketch with equal buckets). It is linear, preserves inner products in
                expectation, and needs one pass over the output, whereas a dense projection of a
                large output would not fit in memory. The identity if there are at most `size`
                coordinates.
            flatten: every coordinate.
            last: the last time step (the last that is not masked; the last that was run in a layer
                that runs backwards), flattened.
            time_mean: the mean over the second axis only (over steps that are not masked),
                flattened.
            or the name of a registered kind. An example whose steps are all masked has means and a
            last step of 0. The other kinds take the outputs of masked steps like all others.
        size: the number of features of a subset or projection.
        seed: the seed of the subset or projection, combined with the tap's name.
    """

    kind: str = "mean"
    _: dataclasses.KW_ONLY
    size: int = DEFAULT_SIZE
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        checks.one_of("`reduction`", self.kind, KINDS)
        checks.positive_integer("`reduction` size", self.size)
        seeds.checked_seed(self.seed)

    @classmethod
    def parse(cls, text: str | Reduction, *, seed: int = 0) -> Reduction:
        """Reads "mean", "subset", "subset:500", ...; passes a `Reduction` through."""
        if isinstance(text, cls):
            return text
        kind, _, size = str(text).partition(":")
        sized = kind in KINDS and KINDS[kind].draw is not None
        if size and not (sized and size.isdecimal()):
            raise checks.invalid(
                "`reduction`",
                "a name, with a size where it takes one, e.g. 'subset:1000'",
                repr(text),
            )
        if not sized:
            return cls(kind)
        return cls(kind, size=int(size) if size else DEFAULT_SIZE, seed=seed)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return self.kind if KINDS[self.kind].draw is None else f"{self.kind}:{self.size}"

    @property
    def uses_masks(self) -> bool:
        """Whether masked steps are left out."""
        return KINDS[self.kind].reduce is not None

    def features(self, tap: Tap) -> int:
        """Returns the number of features at a `Tap`.

        Raises:
            ValueError: the tap's shape doesn't fit, e.g. an unknown length for `flatten`.
        """
        kind, shape = KINDS[self.kind], tap.shape[1:]
        if len(shape) < kind.least_rank:
            raise checks.invalid(
                f"`reduction` {self.kind!r}: tap {tap.name!r}",
                "(batch, time, ...)",
                tap.shape,
                "Choose taps with a time axis, by name or e.g. 'class:LSTM', or use 'mean'.",
            )
        sides = [side for side in kind.shape(shape) if side is not None]
        if len(sides) < len(kind.shape(shape)):
            raise checks.invalid(
                f"`reduction` {self.kind!r}: tap {tap.name!r}",
                "of a fixed size",
                tap.shape,
                "Use 'mean', or give the model inputs of one size.",
            )
        size = math.prod(sides)
        return size if kind.draw is None else min(size, self.size)

    def __call__(self, tensor: tf.Tensor, name: str, *, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Reduces an output; call it inside a `tf.function`.

        Args:
            tensor: an output (batch, ...) of any numeric dtype.
            name: the tap's name, which seeds the subset or projection.
            mask: (batch, time), true for the steps of axis 1 that count; None for all of them.

        Returns:
            (batch, D), float64 for a float64 output and float32 for all others.

        Raises:
            InvalidArgumentError: (when it runs) float32 can't hold the output's integers.
        """
        kind = KINDS[self.kind]
        if tensor.dtype.is_integer and tensor.dtype.size > 2:
            largest = tf.reduce_max(tf.abs(tf.cast(tensor, tf.float64)))
            tf.debugging.Assert(largest <= _LARGEST_INTEGER, [_not_exact(name)])
        if tensor.dtype != tf.float64:
            tensor = tf.cast(tensor, tf.float32)
        if tensor.shape.rank == 1:
            return tensor[:, tf.newaxis]
        if kind.reduce is not None:
            if mask is not None:
                mask = None if tensor.shape.rank == 2 else tf.cast(mask, tf.bool)
            tensor = kind.reduce(tensor, mask)
        if tensor.shape.rank != 2:
            tensor = tf.reshape(tensor, [-1, math.prod(tensor.shape[1:])])
        if kind.draw is None or tensor.shape[1] <= self.size:
            return tensor
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return kind.draw(tensor, self.size, rng)


def _not_exact(name: str) -> str:
    return (
        f"The integers at tap {name!r} must be in [-2^24, 2^24], since features are float32, which"
        " rounds larger ones. Leave out this tap, or scale the integers in the model."
    )


def _mean(tensor: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    # First the mean over time, with the mask, so that the rest needs no mask.
    if mask is not None:
        tensor = _time_mean(tensor, mask)
    for _ in range(tensor.shape.rank - 2):
        tensor = tf.reduce_mean(tensor, 1)  # up to twice as fast on CPUs as all axes at once
    return tensor


def _time_mean(tensor: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean over axis 1 of steps where the mask (batch, time) is true; 0 for none."""
    if mask is None:
        return tf.reduce_mean(tensor, 1)
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (tensor.shape.rank - 2)], 0))
    count = tf.reduce_sum(tf.cast(mask, tensor.dtype), 1)
    # Not a product: a masked step may hold anything, NaN as well.
    total = tf.reduce_sum(tf.where(mask, tensor, tf.zeros((), tensor.dtype)), 1)
    return tf.math.divide_no_nan(total, count)


def _last(tensor: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Returns the last step along axis 1 where the mask (batch, time) is true; 0 for none."""
    if mask is None:
        return tensor[:, -1]
    steps = tf.range(tf.shape(mask)[1])
    last = tf.gather(tensor, tf.reduce_max(tf.where(mask, steps, 0), 1), axis=1, batch_dims=1)
    some = tf.reshape(tf.reduce_any(mask, 1), [-1] + [1] * (tensor.shape.rank - 2))
    return tf.where(some, last, tf.zeros((), tensor.dtype))


def _subset(flat: tf.Tensor, size: int, rng: np.random.Generator) -> tf.Tensor:
    return tf.gather(flat, np.sort(rng.choice(flat.shape[1], size, replace=False)), axis=1)


def _projection(flat: tf.Tensor, size: int, rng: np.random.Generator) -> tf.Tensor:
    order = rng.permutation(flat.shape[1])
    signs = tf.constant(rng.choice([-1.0, 1.0], flat.shape[1]), flat.dtype)
    bucket = -(-flat.shape[1] // size)
    missing = bucket * size - flat.shape[1]
    signed = tf.pad(tf.gather(flat * signs, order, axis=1), [[0, 0], [0, missing]])
    return tf.reduce_sum(tf.reshape(signed, [-1, bucket, size]), 1)


register("mean", shape=lambda shape: shape[-1:], reduce=_mean)
register("subset", draw=_subset)
register("projection", draw=_projection)
register("flatten")
register("last", shape=lambda shape: shape[1:], reduce=_last, least_rank=2)
register("time_mean", shape=lambda shape: shape[1:], reduce=_time_mean, least_rank=2)
