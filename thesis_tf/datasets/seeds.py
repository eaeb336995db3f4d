"""One generator of random numbers for each use of a seed."""

import operator

import numpy as np

from thesis_tf._core import checks

USES = ("take", "hold_out", "order", "draw", "manifold")


def generator(seed, use, stream=0):
    """Returns the generator for one use of `seed` and one of its streams, say one a split.

    No two may draw the same permutation: to hold out examples after a shuffle would then bring
    back the order before it, which may be sorted by class. Hence spawned sequences;
    `default_rng((seed, 0))` draws just what `default_rng(seed)` does.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(USES.index(use), stream)))


def checked_seed(seed):
    """Returns `seed` as an int; raises if it isn't a non-negative integer."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise checks.invalid(
            "`seed`", "a non-negative integer", repr(seed), kind=TypeError
        ) from None
    if number < 0:
        raise checks.invalid("`seed`", "a non-negative integer", number)
    return number
