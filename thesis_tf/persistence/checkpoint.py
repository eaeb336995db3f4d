"""Variables and named arrays in one .npz file, written atomically and read without pickle."""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from thesis_tf.persistence import arrays as npz
from thesis_tf.persistence.files import Path


def save(
    path: Path,
    variables: Iterable[keras.Variable],
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes the values of Keras variables and named arrays, atomically."""
    values = {str(i): variable.numpy() for i, variable in enumerate(variables)}
    npz.save(path, {**values, **(arrays or {})})


def restore(path: Path, variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Assigns the values that `save` wrote to variables; returns the named arrays.

    Raises:
        ValueError: the file is for other variables, or is incomplete.
    """
    try:
        arrays = npz.load(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint, or was cut short: {error}") from error
    values = [arrays.pop(str(i)) for i in range(sum(name.isdigit() for name in arrays))]
    variables = list(variables)
    own = [variable.numpy() for variable in variables]
    if [_form(value) for value in values] != [_form(value) for value in own]:
        raise ValueError(f"{path} is the checkpoint of another model. Use another folder.")
    for variable, value, present in zip(variables, values, own, strict=True):
        # Dtypes that NumPy doesn't have, such as bfloat16, are read as bytes.
        variable.assign(value.view(present.dtype))
    return arrays


def _form(value: np.ndarray) -> tuple[tuple[int, ...], str, int]:
    return value.shape, value.dtype.kind, value.dtype.itemsize
