"""Results on disk: nested dicts and lists of numbers and strings as JSON, arrays in .npz."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from thesis_tf.persistence import arrays as arrays_on_disk
from thesis_tf.persistence import files

_ARRAY = "array in arrays.npz"


def save(folder: pathlib.Path, result: Any) -> None:
    """Writes a result to a folder, atomically.

    Raises:
        TypeError: the result contains something other than a dict with names as keys, a list, a
            number, a string, a boolean, None, or a NumPy array of numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    values = _without_arrays(result, arrays, "result")
    with files.atomic(folder) as partial:
        partial.mkdir()
        files.write_json(partial / "result.json", values)
        arrays_on_disk.save(partial / "arrays.npz", arrays, compressed=True)


def load(folder: pathlib.Path) -> Any:
    """Reads a result that `save` wrote, with lists for tuples and Python numbers for NumPy's."""
    values = files.read_json(folder / "result.json")
    return _with_arrays(values, arrays_on_disk.load(folder / "arrays.npz"))


def read(folder: pathlib.Path) -> Any:
    """Returns the result of `load`, or None if the files don't exist or are damaged."""
    try:
        return load(folder)
    except (ValueError, KeyError, FileNotFoundError):
        return None


def to_json(result: Any) -> Any:
    """Returns the result with arrays as lists, for readable JSON."""
    return json.loads(json.dumps(result, default=lambda value: value.tolist()))


def _without_arrays(value: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place} must have names as keys. Received: {key!r}.")
        return {k: _without_arrays(v, arrays, f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, arrays, f"{place}.{i}") for i, v in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype != object:
        name = f"{len(arrays):04d}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(
        f"{place} must be a number, a string, a NumPy array, or a dict or list of such."
        f" Received: {type(value).__name__}."
    )


def _with_arrays(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(part, arrays) for key, part in value.items()}
    return [_with_arrays(part, arrays) for part in value] if isinstance(value, list) else value
