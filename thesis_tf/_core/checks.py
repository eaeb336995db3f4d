"""Argument checks with one form of message: what was expected, what came, what to do."""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


class ArgumentError(Exception):
    """A bad argument; it is a `ValueError` or a `TypeError` as well.

    Attributes:
        argument: the argument's name in the function that was called, None where the error is not
            of one argument. By it a program names the flag that the argument came from.
    """

    argument: str | None = None


class ArgumentValueError(ArgumentError, ValueError):
    """An argument whose value can't be used."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a type that can't be used."""


def invalid(
    name: str,
    expected: str,
    received: Any,
    advice: str | None = None,
    kind: type[Exception] = ValueError,
) -> Exception:
    """Builds the exception for a bad argument; the caller raises it.

    Args:
        name: the argument as the caller wrote it, e.g. "`labels`".
        expected: a noun phrase, e.g. "integers in [0, 10)".
        received: what came, as a noun phrase or a value.
        advice: a sentence that says what to do, if there is one.
        kind: the exception class. Of `ValueError` and `TypeError` it is the `ArgumentError`, whose
            `argument` is the first name in backquotes.
    """
    message = f"{name} must be {expected}. Received: {received}."
    error = _KINDS.get(kind, kind)(f"{message} {advice}" if advice else message)
    if isinstance(error, ArgumentError) and name.startswith("`"):
        error.argument = name.split("`")[1]
    return error


_KINDS: dict[type[Exception], type[Exception]] = {
    ValueError: ArgumentValueError,
    TypeError: ArgumentTypeError,
}


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
