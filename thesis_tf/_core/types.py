"""Type aliases for signatures of all areas."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Path: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = npt.NDArray[Any]
ArrayLike: TypeAlias = npt.ArrayLike
TensorLike: TypeAlias = Union["tf.Tensor", "tf.Variable", np.ndarray, Sequence[Any], float]
# One tensor, or a list, tuple or dict of tensors, like several inputs or outputs in Keras.
Structure: TypeAlias = TensorLike | Sequence["Structure"] | Mapping[str, "Structure"]
# Arrays (x, y) or (x, y, sample_weight), or batches of them.
Data: TypeAlias = Union["tf.data.Dataset", tuple[Structure, ...], list[Structure]]
# As for `keras.Model.compile`: a loss, its name, or a function (y_true, y_pred) -> (batch,).
Loss: TypeAlias = Union["keras.losses.Loss", str, Callable[..., Any]]
Verbose: TypeAlias = Literal["auto", 0, 1, 2]
