"""Argument checks whose messages say what was expected, what was received and what to do."""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.errors import invalid as invalid

_T = TypeVar("_T")
_EXACT = 1 << 53  # larger integers aren't all numbers of float64


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int of at least 1; raises otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise invalid(name, "a positive integer", repr(value), kind=TypeError) from None
    if number < 1:
        raise invalid(name, "a positive integer", number)
    return number


def positive_number(name: str, value: Any) -> float:
    """Returns `value` as a finite float above 0; raises otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise invalid(name, "a positive number", repr(value), kind=TypeError) from None
    if not (number > 0 and math.isfinite(number)):
        raise invalid(name, "a positive number", number)
    return number


def probability(name: str, value: Any) -> float:
    """Returns `value` as a float in (0, 1]; raises otherwise."""
    number = positive_number(name, value)
    if number > 1:
        raise invalid(name, "in (0, 1]", number)
    return number


def finite_number(name: str, value: Any) -> float:
    """Returns `value` as a finite float; raises otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise invalid(name, "a finite number", repr(value), kind=TypeError) from None
    if not math.isfinite(number):
        raise invalid(name, "a finite number", number)
    return number


def real_numbers(name: str, values: ArrayLike) -> Array:
    """Returns `values` as an array of float64 in the machine's byte order, perhaps `values` itself.

    Raises:
        TypeError: they are complex, whose imaginary parts NumPy would discard, or no numbers.
        ValueError: they are integers that float64 rounds to others.
    """
    given = np.asarray(values)
    try:
        if given.dtype.kind == "c":
            raise TypeError
        numbers: Array = given.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise invalid(name, "real numbers", f"dtype {given.dtype}", kind=TypeError) from None
    if given.dtype.kind in "iu" and given.size:
        least, most = int(given.min()), int(given.max())
        if max(-least, most) > _EXACT:
            raise invalid(
                name,
                "integers within ±2^53, which float64 holds exactly",
                f"values from {least} to {most}",
                "Subtract a constant first.",
            )
    return numbers


def one_of(name: str, value: _T, options: Iterable[Any]) -> _T:
    """Returns `value` if it is among `options`; raises otherwise."""
    options = list(options)
    if value not in options:
        raise invalid(name, f"one of {', '.join(map(str, options))}", repr(value))
    return value


def nearest(name: str, options: Iterable[str], most: int = 5) -> str:
    """Returns a phrase that lists the options most like `name`, for an error's advice."""
    options = list(dict.fromkeys(options))
    lowered = {option.lower(): option for option in options}
    stem = name.replace("*", "").lower()
    near = [option for option in options if stem and stem in option.lower()][:most]
    for match in difflib.get_close_matches(stem, lowered, n=most, cutoff=0.4):
        if lowered[match] not in near and len(near) < most:
            near.append(lowered[match])
    if near:
        return f"The nearest are: {', '.join(near)}."
    if not options:
        return "There are none."
    shown = ", ".join(options[:most])
    return f"There are {len(options)}: {shown}{', ...' if len(options) > most else ''}."
