"""The first layer of every network: the scale of pixels."""

from __future__ import annotations

from typing import Any, TypeAlias

import keras

from thesis_tf.errors import invalid

# (black, white), or None for values that are no pixels, which no network scales.
ValueRange: TypeAlias = tuple[float, float] | None
BYTES = (0.0, 255.0)


def to_unit(value_range: ValueRange, *, name: str = "pixels") -> keras.layers.Rescaling:
    """Returns a layer that maps black to 0 and white to 1; without a range it changes nothing."""
    black, white = _checked(value_range) or (0.0, 1.0)
    return _layer(1 / (white - black), -black / (white - black), name=name)


def to_bytes(
    value_range: ValueRange, *, name: str = "bytes", dtype: str | None = None
) -> keras.layers.Rescaling | None:
    """Returns a layer that maps black to 0 and white to 255, None if they are there already.

    Raises:
        ValueError: the values are no pixels.
    """
    checked = _checked(value_range)
    if checked is None:
        raise invalid(
            "`value_range`",
            "(black, white) for a network that was trained on images",
            "values that are no pixels",
            "Pass what black and white are, for example (-1, 1).",
        )
    if checked == BYTES:
        return None
    black, white = checked
    scale = 255 / (white - black)
    return _layer(scale, -black * scale, name=name, dtype=dtype)


def _layer(scale: float, offset: float, **options: Any) -> keras.layers.Rescaling:
    return keras.layers.Rescaling(scale, offset or 0.0, **options)


def _checked(value_range: ValueRange) -> ValueRange:
    if value_range is None:
        return None
    black, white = map(float, value_range)
    if not black < white:
        raise invalid("`value_range`", "(black, white), black < white", value_range)
    return black, white
