"""Descriptions that distinguish losses, for the fingerprints of runs."""

import hashlib
import inspect
from typing import Any

import keras
import numpy as np

from thesis_tf._keras.example_loss import ExampleLoss


def of(loss: ExampleLoss) -> str:
    """Returns a description of a loss and its weights, which are different for different losses.

    A function is described by its name, its source, its defaults and the numbers, strings, arrays
    and functions of its closure.
    """
    description = _of(loss.user_loss)
    weights = loss.user_loss_weights
    return description if weights is None else f"{description} weighted by {weights}"


def _of(value: Any, outer: tuple[int, ...] = ()) -> str:
    """Describes a value; `outer` are the ids of the objects that hold it."""
    if id(value) in outer:
        return "itself"
    outer = (*outer, id(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_of(value[key], outer)}" for key in value) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_of(v, outer) for v in value) + "]"
    if isinstance(value, str):
        # An alias is the same function.
        value = value if value.lower() in ("ce", "crossentropy") else keras.losses.get(value)
    if isinstance(value, keras.losses.Loss):
        return f"{type(value).__name__} {_settings(value, outer)}"
    if inspect.isroutine(value):
        return _of_function(value, outer)
    if isinstance(value, np.ndarray) or hasattr(value, "numpy"):
        array = np.ascontiguousarray(value)
        return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    name = type(value).__qualname__
    if callable(value) and not isinstance(value, (type, keras.Layer)):
        return f"{name} {_of(vars(value), outer)}"
    return name


def _settings(loss: keras.losses.Loss, outer: tuple[int, ...]) -> dict[str, Any]:
    """Returns the config of a loss, with the settings that Keras' `get_config` leaves out."""
    settings: dict[str, Any] = dict(loss.get_config())
    for name, value in vars(loss).items():
        if name == "_fn_kwargs":  # Huber's delta is nowhere else
            settings |= {key: _of(v, outer) for key, v in value.items() if key not in settings}
        elif not name.startswith("_") and name not in settings and name != "fn":
            settings[name] = _of(value, outer)
    settings.pop("name", None)
    return dict(sorted(settings.items()))


def _of_function(function: Any, outer: tuple[int, ...]) -> str:
    name = (
        f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
    )
    if str(getattr(function, "__module__", "")).startswith("keras."):
        return name
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = repr((code.co_code, code.co_names))
    if function.__name__ == "<lambda>":  # a line may have several
        text += repr((code.co_code, [c for c in code.co_consts if not inspect.iscode(c)]))
    held = [_cell(cell, outer) for cell in function.__closure__ or ()]
    defaults = [_of(v, outer) for v in function.__defaults__ or ()]
    keywords = {key: _of(v, outer) for key, v in (function.__kwdefaults__ or {}).items()}
    parts = repr((text, held, defaults, keywords))
    return f"{name} {hashlib.sha256(parts.encode()).hexdigest()[:16]}"


def _cell(cell: Any, outer: tuple[int, ...]) -> str:
    try:
        return _of(cell.cell_contents, outer)
    except ValueError:  # empty: a function that refers to itself
        return "empty"
