"""Variables and a few arrays in one .npz file, written whole or not at all, read without pickle."""

import numpy as np

from thesis_tf import _files


def save(path, variables, arrays=None):
    """Writes the values of Keras variables, and named arrays beside them, atomically."""
    values = {str(i): variable.numpy() for i, variable in enumerate(variables)}
    with _files.atomic(path) as partial:
        np.savez(partial, **values, **(arrays or {}))


def restore(path, variables):
    """Gives variables the values that `save` wrote; returns the named arrays.

    Raises:
        ValueError: the file is of other variables, or was cut short.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint, or was cut short: {error}") from error
    values = [arrays.pop(str(i)) for i in range(sum(name.isdigit() for name in arrays))]
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise ValueError(f"{path} is the checkpoint of another model. Use another folder.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return arrays
