"""Seeds: one integer for the user, streams of random numbers that never coincide for the code."""

import operator
from typing import SupportsIndex

import numpy as np

from thesis_tf._core import checks

USES = ("take", "hold_out", "order", "draw", "manifold")


def checked_seed(seed: SupportsIndex) -> int:
    """Returns `seed` as an int.

    Raises:
        TypeError: it is no integer.
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
    """Returns the generator for one use of `seed` and one of its streams, such as one per split.

    No two uses may draw the same permutation: to hold out examples after a shuffle would then bring
    back the order before it, which may be sorted by class. Hence spawned sequences;
    `default_rng((seed, 0))` draws just what `default_rng(seed)` does.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(USES.index(use), stream)))
