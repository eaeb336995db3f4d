"""The description of a run, and the parameters that its processes exchange."""

from collections.abc import Mapping

import keras
import numpy as np

from thesis_tf.issgd.stores import RunSpec
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.persistence import fingerprint


def spec_of(
    model: keras.Model, loss_name: str, data: Mapping[str, Examples], block_size: int
) -> RunSpec:
    """Returns the `RunSpec` by which processes check that they belong to one run.

    Args:
        model: a built Keras model; its layers, wiring and shapes count, its parameters don't.
        loss_name: a description of the loss.
        data: {split: `Examples`}.
        block_size: examples per block.
    """
    prints = {name: examples.fingerprint() for name, examples in sorted(data.items())}
    return RunSpec(
        model=fingerprint.of_json([fingerprint.of_model(model, weights=False), loss_name]),
        data=fingerprint.of_json(prints),
        splits=tuple((name, len(examples)) for name, examples in sorted(data.items())),
        parameter_bytes=sum(_bytes(v) for v in model.weights),
        block_size=block_size,
    )


def read_parameters(model: keras.Model) -> np.ndarray:
    """Returns all variables of a model, including moving averages, as one uint8 array."""
    values = [np.ascontiguousarray(v.numpy()) for v in model.weights]
    return np.concatenate([v.reshape(-1).view(np.uint8) for v in values])


def write_parameters(model: keras.Model, buffer: np.ndarray) -> None:
    """Assigns to a model the variables that `read_parameters` returned."""
    start = 0
    for variable in model.weights:
        stop = start + _bytes(variable)
        dtype = variable.numpy().dtype
        variable.assign(buffer[start:stop].view(dtype).reshape(variable.shape))
        start = stop


def mix_parameters(model: keras.Model, buffer: np.ndarray, fraction: float) -> None:
    """Moves a model's floating variables toward those in a buffer by a fraction in (0, 1]."""
    start = 0
    for variable in model.weights:
        own = variable.numpy()
        stop = start + own.nbytes
        if keras.backend.is_float_dtype(variable.dtype):
            theirs = buffer[start:stop].view(own.dtype).reshape(own.shape)
            # With a fraction of 1 the result is exactly `theirs`, unlike own + (theirs - own).
            kept, taken = own.dtype.type(1 - fraction), own.dtype.type(fraction)
            variable.assign(kept * own + taken * theirs)
        start = stop


def _bytes(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape)) * np.dtype(variable.numpy().dtype).itemsize
