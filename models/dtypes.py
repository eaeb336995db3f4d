"""The precision of computations that must not be rounded to 16 bits."""

from __future__ import annotations

import keras


def at_least_float32(dtype: str | None = None) -> str:
    """Returns "float64" for a dtype or policy of float64, else "float32".

    Args:
        dtype: the name of a dtype or a Keras policy; None is that of the global policy's variables.
    """
    if dtype is None:
        dtype = keras.config.dtype_policy().variable_dtype
    return "float64" if dtype == "float64" else "float32"
