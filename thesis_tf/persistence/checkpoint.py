"""Variables and a few arrays in one .npz file, written whole or not at all, read without pickle."""

import zipfile

import numpy as np

from thesis_tf.persistence import files


def save(path, variables, arrays=None):
    """Writes the values of Keras variables, and named arrays beside them, atomically."""
    values = {str(i): variable.numpy() for i, variable in enumerate(variables)}
    with files.atomic(path) as partial:
        np.savez(partial, **values, **(arrays or {}))


def restore(path, variables):
    """Gives variables the values that `save` wrote; returns the named arrays.

    Raises:
        ValueError: the file is of other variables, or was cut short.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint, or was cut short: {error}") from error
    values = [arrays.pop(str(i)) for i in range(sum(name.isdigit() for name in arrays))]
    own = [variable.numpy() for variable in variables]
    if [_form(value) for value in values] != [_form(value) for value in own]:
        raise ValueError(f"{path} is the checkpoint of another model. Use another folder.")
    for variable, value, present in zip(variables, values, own, strict=True):
        # A dtype that NumPy doesn't know, as bfloat16, comes back as bytes.
        variable.assign(value.view(present.dtype))
    return arrays


def _form(value):
    return value.shape, value.dtype.kind, value.dtype.itemsize
