"""Fingerprints: short hashes of models, losses, arrays and files, by what they hold."""

import functools
import hashlib
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_tf._core import checks

if TYPE_CHECKING:
    import keras

# The most bytes of an array that are hashed: about a second.
DATA_BYTES = 1 << 30
_CHUNK = 1 << 26
# Packages whose classes and functions are identified by their names alone.
_KNOWN = ("keras", "keras_hub", "tensorflow", "tf_keras", "numpy", "builtins")


def of_model(model: "keras.Model", *, weights: bool = True) -> str:
    """Hashes a Keras model: its layers' settings and wiring, its weights' shapes and values.

    The hash doesn't depend on names, since the same model built twice in one process gets new
    names, nor on `trainable`, nor on seeds. Of layers that Keras doesn't bring, the source code of
    the class counts, and numbers, strings and arrays among its attributes.
    Not seen are changes of functions that such a class calls.

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
            digest.update(_bytes(weight.numpy()))
    return digest.hexdigest()[:32]


def _settings(layer: "keras.layers.Layer") -> str:
    held = {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, types.FunctionType) and not _is_known(value)
    }
    try:
        config = layer.get_config()
    except Exception:  # of a layer's own code, or Keras' for one that it can't serialize
        config = _wiring(layer)
    parts = [*layer._flatten_layers(), *getattr(layer, "operations", [])]
    numbers = {part.name: number for number, part in enumerate(parts)}

    def nameless(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: nameless(v, k) for k, v in value.items() if k not in _IGNORED}
        if isinstance(value, (list, tuple)):
            return [nameless(v, key) for v in value]
        return numbers.get(value, value) if key in _NAMES else value

    # `get_config` of a user's class has what it was made with, which may have changed since.
    found = [nameless(config), _source(type(layer)), held, nameless(_attributes(layer))]
    return json.dumps(found, sort_keys=True, default=_plain)


def _attributes(layer: "keras.layers.Layer") -> dict[str, Any]:
    """Returns the numbers, strings and arrays among the attributes that a user's class sets."""
    if _is_known(type(layer)):
        return {}
    return {
        name: value
        for name, value in vars(layer).items()
        if _is_plain(value) and not name.startswith("_") and name not in _attributes_of_keras()
    }


@functools.cache
def _attributes_of_keras() -> set[str]:
    import keras

    by_fit = ("history", "stop_training", "optimizer", "loss_weights", "run_eagerly", "jit_compile")
    return {*vars(keras.Model()), *by_fit}


def _wiring(model: "keras.layers.Layer") -> dict[str, Any]:
    """Returns what a functional model does with which tensors; {} for other layers."""
    operations = list(getattr(model, "operations", []))
    if not hasattr(model, "_nodes"):
        return {}
    numbers = {id(operation): number for number, operation in enumerate(operations)}
    own = set(map(id, model._nodes))

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        history = getattr(value, "_keras_history", None)
        if history is None:
            return _plain(value)
        return [numbers.get(id(history.operation)), history.node_index, history.tensor_index]

    found = []
    for operation in operations:
        calls = [
            plain([node.arguments.args, node.arguments.kwargs])
            for node in operation._inbound_nodes
            if id(node) in own
        ]
        settings = "" if hasattr(operation, "_flatten_layers") else _of_instance(operation, ())
        found.append([settings, calls])
    return {"wiring": found}


_IGNORED = ("trainable", "seed")
# The settings of a model that contain names of its layers and operations.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")


def of_callable(function: Any) -> str:
    """Hashes a function or an object, such as a loss, by its code and the values that it holds.

    Two lambdas of one place differ by the values that they enclose, and two objects of one class by
    their attributes. Not seen are changes of functions that it calls by a global name, and values
    of variables and of models that it encloses, which training may change.

    Args:
        function: a function, a method, a `functools.partial`, an object of a class, or a dict or
            list of these.
    """
    return of_json(_plain(function))


def _plain(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Returns what a value holds, JSON-serializable; the same for equal values in all processes."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | complex | bytes):
        return repr(value)
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(part, inside) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, inside) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(of_json(_plain(part, inside)) for part in value)
    if isinstance(value, types.MethodType):
        return [_plain(value.__func__, inside), _plain(value.__self__, inside)]
    if isinstance(value, functools.partial):
        return [_plain(part, inside) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), value.co_names, _plain(value.co_consts, inside)]
    if isinstance(value, type):
        return [value.__qualname__, _source(value) or value.__module__]
    if isinstance(value, types.FunctionType):
        return _of_function(value, inside)
    if hasattr(value, "python_function"):  # a tf.function
        return _plain(value.python_function, inside)
    if hasattr(value, "_flatten_layers"):
        return _of_held_model(value)
    if hasattr(value, "assign"):
        return [str(value.shape), str(value.dtype)]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "numpy"):
        return of_arrays([_values(value)])
    return _of_instance(value, inside)


# The models that are being hashed because a function encloses them, perhaps one of their own.
_HELD: set[int] = set()


def _of_held_model(model: "keras.layers.Layer") -> str:
    if id(model) in _HELD:
        return "itself"
    _HELD.add(id(model))
    try:
        return of_model(model, weights=False)
    finally:
        _HELD.remove(id(model))


def _of_function(function: types.FunctionType, inside: tuple[int, ...]) -> list[Any]:
    if _is_known(function):
        return [function.__module__, function.__qualname__]
    # Several lambdas may share one line. The code of others depends on the version of Python.
    text = "" if function.__name__ == "<lambda>" else _source(function)
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            cells.append("empty")
    held = [text or function.__code__, cells, function.__defaults__, function.__kwdefaults__]
    return [function.__qualname__, *(_plain(part, inside) for part in held)]


def _of_instance(value: Any, inside: tuple[int, ...]) -> list[Any]:
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        return [_plain(type(value), inside), re.sub(r" at 0x\w+", "", repr(value))]
    # What libraries keep for themselves may differ from process to process.
    held = {
        name: _plain(part, inside)
        for name, part in attributes.items()
        if name.strip("_") not in ("name", "path")
        and (not name.startswith("_") or _is_plain(part) or isinstance(part, types.FunctionType))
    }
    return [_plain(type(value), inside), getattr(value, "__name__", ""), held]


def _source(made: type | types.FunctionType) -> str:
    """Returns the source code of a class or a function; "" if it has none or is well known."""
    if _is_known(made):
        return ""
    try:
        return textwrap.dedent(inspect.getsource(made))
    except (OSError, TypeError):
        return ""


def _is_known(made: type | types.FunctionType) -> bool:
    return (made.__module__ or "").partition(".")[0] in _KNOWN


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic)


def _values(value: Any) -> np.ndarray:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def of_arrays(arrays: Sequence[np.ndarray]) -> str:
    """Hashes a list of arrays: shapes, dtypes, and values, whatever their byte order and layout.

    Of an array larger than `DATA_BYTES`, one half of this size is spent on evenly spaced examples,
    including the first and the last, and the other half on the middle of every example. So an
    example that is replaced, added, removed or moved is seen; a change outside the middle of
    some examples may be missed.

    Args:
        arrays: arrays of numbers or strings, also as Python objects.

    Raises:
        TypeError: an array holds Python objects other than numbers and strings.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.newbyteorder('=')}\n".encode())
        for part in _hashed(array):
            digest.update(_bytes(part))
    return digest.hexdigest()[:32]


def _hashed(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the parts of an array whose values are hashed."""
    if array.nbytes <= DATA_BYTES or array.dtype.hasobject or not array.ndim:
        yield array
        return
    length, half = len(array), DATA_BYTES // 2
    for index in np.linspace(0, length - 1, max(2, length * half // array.nbytes)).astype(int):
        yield array[index]
    size = array.size // length
    middle = half // length // array.dtype.itemsize
    start, step = (size - middle) // 2, max(1, _CHUNK * length // array.nbytes)
    for first in range(0, length if middle else 0, step):
        rows = array[first : first + step]
        yield rows.reshape(len(rows), size)[:, start : start + middle]


def _bytes(array: np.ndarray) -> "bytes | memoryview":
    """Returns the values of an array in its order, in the machine's byte order."""
    if array.dtype.kind == "O":
        return b"".join(map(_of_object, np.asarray(array).ravel()))
    array = np.ascontiguousarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _of_object(value: Any) -> bytes:
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return f"{type(value).__name__} {len(data)} ".encode() + data
    if value is None or isinstance(value, bool | int | float | np.generic):
        return f"{value!r} ".encode()
    if isinstance(value, np.ndarray):
        return of_arrays([value]).encode()
    raise checks.invalid(
        "The array",
        "one of numbers or strings",
        f"one of Python objects ({type(value).__name__}), whose contents can't be compared",
        kind=TypeError,
    )


def of_json(value: Any) -> str:
    """Hashes a JSON-serializable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
