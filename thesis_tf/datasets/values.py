"""The range of an example's values: which are pixels, and what is black and white."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array

# What a caller may tell: (black, white), or that values are no pixels; None judges by the values.
Told: TypeAlias = tuple[float, float] | Literal["none"] | None

# The ranges in which images are kept; a data set is in one of them if its largest value is in the
# upper half. A maximum of 16 may mean digits in [0, 16], or dark pixels, or no pixels.
_RANGES = {"b": (1,), "u1": (1, 255), "u2": (1, 255, 65535), "": (1, 255)}
# Values of both signs with a larger root mean square aren't standardized and not in [-1, 1].
_LARGEST_RMS = 10.0


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """The extremes of a data set's values, and the pixels that they stand for.

    Attributes:
        low, high: the smallest and the largest value in all splits.
        dtype: the name of the stored dtype.
        pixels: (black, white), such as (0, 255); None for values that aren't pixels, e.g. if they
            are standardized.
        told_apart: False if the values can be pixels of more than one range; `pixels` is None then.
        in_unit: whether examples were scaled since, so that black is 0 and white is 1.
    """

    low: float
    high: float
    dtype: str
    _: dataclasses.KW_ONLY
    pixels: tuple[float, float] | None = None
    told_apart: bool = True
    in_unit: bool = False

    def known_pixels(self, name: str = "the data set") -> tuple[float, float] | None:
        """Returns `pixels`; raises ValueError if the values can't be told apart."""
        if not self.told_apart:
            raise checks.invalid(
                "`value_range`",
                f"given for {name}, since it can't be told from its values what black and white"
                " are",
                f"values {self}",
                "Pass (black, white), for example (0, 16), or none if they are no pixels: then no"
                " scale is applied.",
            )
        return self.pixels

    def __str__(self) -> str:
        """Returns "0 to 255 (uint8)"."""
        return f"{self.low:.6g} to {self.high:.6g} ({self.dtype})"


def checked_told(value_range: Any) -> Told:
    """Returns a `value_range` that a caller passed, as a pair of floats, "none" or None.

    Raises:
        TypeError: it is something else.
        ValueError: its numbers aren't finite or increasing.
    """
    if value_range is None or value_range == "none":
        return value_range
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        raise checks.invalid(
            "`value_range`", '(black, white), "none" or None', repr(value_range), kind=TypeError
        ) from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise checks.invalid("`value_range`", "two finite numbers, black < white", (low, high))
    return low, high


def find(name: str, arrays: Iterable[Array], *, told: Told = None) -> ValueRange:
    """Finds the range of a data set's values.

    Boolean, unsigned and other values are pixels if the smallest isn't negative and the largest is
    in (127, 255], or in (32767, 65535] for uint16, or at most 1. Values of both signs are no pixels
    if their root mean square is at most 10. For others, such as [0, 16], `told_apart` is False.

    Args:
        name: the name of the data set, for errors.
        arrays: the examples of all splits, of one dtype.
        told: what the format of the data, or the caller, says.

    Raises:
        ValueError: values are outside the range that was told, or it isn't told and a split is in
            [0, 1] where another is in [0, 255].
    """
    arrays = list(arrays)
    low = float(min(x.min() for x in arrays))
    high = float(max(x.max() for x in arrays))
    dtype = arrays[0].dtype
    found = ValueRange(low, high, dtype.name)
    if told == "none":
        return found
    if told is not None:
        if low < told[0] or high > told[1]:
            raise checks.invalid(
                "`value_range`", f"around all values of {name}, {found}", f"{told[0]:g},{told[1]:g}"
            )
        return dataclasses.replace(found, pixels=told)
    if low < 0:
        squares = sum(
            float(np.square(x[i : i + 1024], dtype=np.float64).sum())
            for x in arrays
            for i in range(0, len(x), 1024)
        )
        rms = (squares / sum(x.size for x in arrays)) ** 0.5
        return dataclasses.replace(found, told_apart=rms <= _LARGEST_RMS)
    kind = "b" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize}"
    for white in _RANGES.get(kind, _RANGES[""]):
        # For white = 1 every value is in range, since images in [0, 1] may be dark.
        if (white // 2 if white > 1 else -1) < high <= white:
            if white > 1:
                _check_splits(name, arrays, white)
            return dataclasses.replace(found, pixels=(0.0, float(white)))
    return dataclasses.replace(found, told_apart=False)


def _check_splits(name: str, arrays: Sequence[Array], white: float) -> None:
    """Raises ValueError if a split is in [0, 1] where another is in [0, 255], and the like."""
    below = {255: 1, 65535: 255}[int(white)]
    highest = [float(x.max()) for x in arrays]
    if min(highest) <= below:
        raise checks.invalid(
            "`value_range`",
            f"given for {name}, as its splits seem to have different ranges",
            f"values up to {', '.join(f'{high:.6g}' for high in highest)} in its splits",
            f"Scale all of them alike; if they are, pass (0, {white:g}).",
        )


def to_unit(values: ValueRange, told: Told, name: str) -> ValueRange:
    """Returns `values`, with whether examples without labels are scaled to [0, 1].

    Integers that are pixels are, and all values if a caller told what black and white are. Floats
    are otherwise left as they are, and so are integers that aren't pixels.

    Raises:
        ValueError: examples are bytes whose range can't be told from their values.
    """
    pixels = values.known_pixels(name) if values.dtype == "uint8" else values.pixels
    is_integer = np.dtype(values.dtype).kind in "biu"
    in_unit = pixels is not None and (is_integer or told is not None)
    return dataclasses.replace(values, in_unit=in_unit)


def as_floats(x: Array, values: ValueRange) -> Array:
    """Returns examples as float32, or float64 if they come so, and scaled if `values.in_unit`.

    Raises:
        ValueError: they are integers that float64 rounds to others.
    """
    if x.dtype != np.float64:
        # Integers above 2^24 aren't exact in float32.
        is_short = x.dtype.kind != "f" and max(-values.low, values.high) <= 2**24
        if is_short or (x.dtype.kind == "f" and x.dtype.itemsize <= 4):
            x = x.astype(np.float32)
        else:
            x = checks.real_numbers("`x`", x)
    if not values.in_unit or values.pixels is None:
        return x
    black, white = values.pixels
    return (x - black if black else x) / (white - black)
