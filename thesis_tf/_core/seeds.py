"""Seeds: converts one integer from the user to independent streams of random numbers."""

import operator
from typing import SupportsIndex

import numpy as np

from thesis_tf._core import checks

USES = ("take", "hold_out", "order", "draw", "manifold")


def checked_seed(seed: SupportsIndex) -> int:
    """Returns `seed` as an int.

    Raises:
        TypeError: it isn't an integer.
        ValueError: it is negative.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise checks.invalid(
            "`seed`", "a non-negative integer", repr(seed), kind=TypeError
        ) from None
    if number < 0:
        raise checks.invalid("`seed`", "a non-negative integer", number)
    return number


def generator(seed: int, use: str, stream: int = 0) -> np.random.Generator:
    """Returns the generator for one use of `seed` and one stream, such as one per split.

    Different uses must draw different permutations. Otherwise holding out examples after a shuffle
    could restore the order before the shuffle, which may be sorted by class. So this uses spawned
    sequences; `default_rng((seed, 0))` would draw the same numbers as `default_rng(seed)`.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(USES.index(use), stream)))
