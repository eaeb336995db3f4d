"""Results on disk: nested dicts and lists of numbers and strings as JSON, arrays beside them."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from thesis_tf.persistence import arrays as arrays_on_disk
from thesis_tf.persistence import files

_ARRAY = "array in arrays.npz"


def save(folder: pathlib.Path, result: Any) -> None:
    """Writes a result to a folder, as a whole or not at all.

    Raises:
        TypeError: something in it is neither a dict with names as keys, a list, a number, a string,
            a truth value, None, nor a NumPy array of numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    values = _without_arrays(result, arrays, "result")
    with files.atomic(folder) as partial:
        partial.mkdir()
        files.write_json(partial / "result.json", values)
        np.savez_compressed(partial / "arrays.npz", allow_pickle=False, **arrays)


def load(folder: pathlib.Path) -> Any:
    """Reads what `save` wrote; tuples are lists now, and NumPy's numbers Python's."""
    values = files.read_json(folder / "result.json")
    return _with_arrays(values, arrays_on_disk.load(folder / "arrays.npz"))


def read(folder: pathlib.Path) -> Any:
    """What `load` returns, or None if it isn't there or was cut short by a disk or a hand."""
    try:
        return load(folder)
    except (ValueError, KeyError, FileNotFoundError):
        return None


def to_json(result: Any) -> Any:
    """The result as JSON, for people: arrays as lists."""
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
