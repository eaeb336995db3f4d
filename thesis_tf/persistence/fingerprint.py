"""Fingerprints: short hashes of models and data sets."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

DATA_BYTES = 1 << 28


def of_model(model: "keras.Model", *, weights: bool = True) -> str:
    """Hashes a Keras model: its layers' settings and wiring, its weights' shapes and values.

    The hash doesn't depend on names, since the same model built twice in one process gets new
    names, nor on `trainable`, nor on seeds. It also doesn't depend on the code of a subclassed
    `call`.

    Args:
        model: a built Keras model.
        weights: whether to include the weights' values.
    """
    digest = hashlib.sha256()
    for layer in model._flatten_layers():
        digest.update(f"{type(layer).__name__} {_settings(layer)}\n".encode())
    for weight in model.weights:
        digest.update(f"{tuple(weight.shape)} {weight.dtype}\n".encode())
        if weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:32]


def _settings(layer: "keras.layers.Layer") -> str:
    try:
        config = layer.get_config()
    except NotImplementedError:
        return ""  # a custom layer that can't be serialized is represented only by its weights
    parts = [*layer._flatten_layers(), *getattr(layer, "operations", [])]
    numbers = {part.name: number for number, part in enumerate(parts)}

    def nameless(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: nameless(v, k) for k, v in value.items() if k not in _IGNORED}
        if isinstance(value, (list, tuple)):
            return [nameless(v, key) for v in value]
        return numbers.get(value, value) if key in _NAMES else value

    return json.dumps(nameless(config), sort_keys=True, default=lambda v: type(v).__name__)


_IGNORED = ("trainable", "seed")
# The settings of a model that contain names of its layers and operations.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")


def of_arrays(arrays: Sequence[np.ndarray]) -> str:
    """Hashes a list of arrays: shapes, dtypes, and values.

    For an array larger than `DATA_BYTES`, it uses evenly spaced examples of about this total size,
    including the first and the last, so that hashing takes little time.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}\n".encode())
        keep = len(array)
        if array.nbytes > DATA_BYTES:
            keep = max(2, int(len(array) * DATA_BYTES / array.nbytes))
        for index in (
            np.linspace(0, len(array) - 1, keep).astype(int) if keep < len(array) else [...]
        ):
            digest.update(np.ascontiguousarray(array[index]).tobytes())
    return digest.hexdigest()[:32]


def of_json(value: Any) -> str:
    """Hashes a JSON-serializable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
