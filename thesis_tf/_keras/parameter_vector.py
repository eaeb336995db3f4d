"""Parameters of a model, all or some of them, as one flat vector (thesis, section 11.2.1)."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._keras import names


def select(model: keras.Model, parameters: Any = None) -> list["keras.Variable"]:
    """Returns the trainable variables that `parameters` selects, in the model's order.

    Args:
        model: a built Keras model.
        parameters: None for all; or one or a list of: a layer, a variable, or a name for
            `names.variables`, that of a layer or a tap ("encoder/dense", or "dense" if no other
            layer has this name), that of a variable ("dense/kernel"), or a glob ("conv*/kernel").

    Raises:
        ValueError: the model is not built or has no trainable parameters, or a name matches none.
    """
    trainable = model.trainable_variables
    if not model.built:
        raise checks.invalid(
            "`model`",
            "built",
            f"{model.name}, which is not",
            "Call it on one batch first, or pass an example of its inputs: inputs=x[:1].",
        )
    if not trainable:
        raise checks.invalid(
            "`model`", "a model with trainable parameters", f"{model.name}, which has none"
        )
    if parameters is None:
        return list(trainable)
    if isinstance(parameters, (str, keras.layers.Layer, keras.Variable)):
        parameters = [parameters]
    wanted = {id(variable) for one in parameters for variable in _matching(model, one)}
    if not wanted:
        raise checks.invalid("`parameters`", "at least one trainable parameter", "none")
    return [variable for variable in trainable if id(variable) in wanted]


def _matching(model: keras.Model, wanted: Any) -> list["keras.Variable"]:
    if isinstance(wanted, keras.Variable):
        found = [v for v in model.trainable_variables if v is wanted]
    elif isinstance(wanted, keras.layers.Layer):
        found = _owned(model, [wanted])
    else:
        return names.variables("`parameters`", model, wanted)
    if found:
        return found
    name = wanted.name
    options = [path for path, x in names.layers(model).items() if x.trainable_variables]
    raise checks.invalid(
        "`parameters`",
        f"layers or trainable variables of {model.name}",
        repr(name),
        checks.nearest(name, options),
    )


def _owned(model: keras.Model, layers: Iterable[keras.layers.Layer]) -> list["keras.Variable"]:
    own = {id(v) for layer in layers for v in layer.trainable_variables}
    return [v for v in model.trainable_variables if id(v) in own]


class VectorLayout:
    """The positions of several tensors in one flat vector.

    Args:
        tensors: Keras variables or tensors of one floating dtype.

    Attributes:
        shapes: their shapes.
        size: the length of the vector.
        dtype: the `tf.DType` of all of them.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        self._sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self._sizes)
        dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors}
        if len(dtypes) != 1:
            raise checks.invalid("The parameters", "of one dtype", ", ".join(sorted(dtypes)))
        self.dtype = tf.as_dtype(dtypes.pop())

    def unpack(self, vector: "tf.Tensor") -> list["tf.Tensor"]:
        """Cuts a flat vector (size,) into a list of tensors of the variables' shapes."""
        parts = tf.split(vector, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def pack(self, tensors: Sequence["tf.Tensor"]) -> "tf.Tensor":
        """Joins tensors of the variables' shapes into one flat vector (size,)."""
        return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
