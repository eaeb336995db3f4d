"""What master, workers and peers of one run have in common: its description and its parameters."""

import keras
import numpy as np

from thesis_tf.issgd.stores import RunSpec
from thesis_tf.persistence import fingerprint


def spec_of(model, loss_name, data, block_size):
    """Returns the `RunSpec` by which processes see that they are of one run.

    Args:
        model: a built Keras model; its layers, wiring and shapes count, its weights don't.
        loss_name: a description of the loss.
        data: {split: `Examples`}.
        block_size: examples a block.
    """
    prints = {name: examples.fingerprint() for name, examples in sorted(data.items())}
    return RunSpec(
        model=fingerprint.of_json([fingerprint.of_model(model, weights=False), loss_name]),
        data=fingerprint.of_json(prints),
        splits=tuple((name, len(examples)) for name, examples in sorted(data.items())),
        parameter_bytes=sum(_bytes(v) for v in model.weights),
        block_size=block_size,
    )


def read_parameters(model):
    """Returns all weights of a model, moving averages included, as one uint8 array."""
    values = [np.ascontiguousarray(v.numpy()) for v in model.weights]
    return np.concatenate([v.reshape(-1).view(np.uint8) for v in values])


def write_parameters(model, buffer):
    """Gives a model the weights that `read_parameters` put into a buffer."""
    start = 0
    for variable in model.weights:
        stop = start + _bytes(variable)
        dtype = variable.numpy().dtype
        variable.assign(buffer[start:stop].view(dtype).reshape(variable.shape))
        start = stop


def mix_parameters(model, buffer, share):
    """Moves a model's floating weights towards those in a buffer by a share in (0, 1]."""
    start = 0
    for variable in model.weights:
        own = variable.numpy()
        stop = start + own.nbytes
        if keras.backend.is_float_dtype(variable.dtype):
            theirs = buffer[start:stop].view(own.dtype).reshape(own.shape)
            # A share of 1 gives theirs to the bit, which own + (theirs - own) does not.
            kept, taken = own.dtype.type(1 - share), own.dtype.type(share)
            variable.assign(kept * own + taken * theirs)
        start = stop


def _bytes(variable):
    return int(np.prod(variable.shape)) * np.dtype(variable.numpy().dtype).itemsize
