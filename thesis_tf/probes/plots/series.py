"""Taps and values of several probed models, combined for one figure."""

import math
from collections.abc import Iterable


def merged(lists: Iterable[Iterable[str]]) -> list[str]:
    """Returns the names of all lists in one order that agrees with the order of each list."""
    order: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in order:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def missing(value: float | None) -> bool:
    """Returns whether nothing was measured: the value is None or NaN."""
    return value is None or math.isnan(value)
