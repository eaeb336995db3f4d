"""Second derivatives of max-pooling that are the same each time.

TensorFlow's MaxPoolGradGrad and MaxPool3DGradGrad take the memory of their input `grad` for their
output if both have as many elements and nothing else holds the input, and then read elements that
they have overwritten. This happens when the input and the output of a max-pooling have one shape
(strides of 1, padding "same"), in graphs only, and depends on the order in which operations run.

On import, this module replaces the gradients that TensorFlow has registered for MaxPoolGrad and
MaxPool3DGrad. In these cases the image is padded first, so that `grad` is larger than the output.
The values are those that TensorFlow computes eagerly.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

OPERATIONS = {"MaxPoolGradGrad": 2, "MaxPool3DGradGrad": 3}  # to the number of spatial axes


def at_maxima(
    image: "tf.Tensor", pooled: "tf.Tensor", values: "tf.Tensor", get: Callable[[str], Any]
) -> "tf.Tensor":
    """Returns the values (of the image's shape) at each window's maximum, of the shape of `pooled`.

    Args:
        image, pooled: a max-pooling's input and output.
        values: a tensor of the image's shape.
        get: returns the max-pooling's attribute of a name.
    """
    layout, padding = tf.compat.as_str(get("data_format")), tf.compat.as_str(get("padding"))
    size, strides = list(get("ksize")), list(get("strides"))
    axes = range(1, len(size) - 1) if layout.endswith("C") else range(2, len(size))
    explicit = list(get("explicit_paddings")) if padding == "EXPLICIT" else []
    if max(size) == 1 and not explicit:
        return values[tuple(slice(None, None, step) for step in strides)]
    if explicit or (padding == "SAME" and _may_be_equal(image.shape, pooled.shape, axes)):
        given, pads = tf.shape(image), []
        for axis in range(len(size)):
            total = 0
            if axis in axes and not explicit:
                length = image.shape[axis] or given[axis]
                steps = -(-length // strides[axis]) - 1
                total = steps * strides[axis] + size[axis] - length
                total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
            pads.append([total // 2, total - total // 2])
        if explicit:
            pads = [explicit[2 * axis : 2 * axis + 2] for axis in range(len(size))]
        image = tf.pad(image, pads, constant_values=image.dtype.min)
        values = tf.pad(values, pads)
        padding = "VALID"
    operation = tf.raw_ops.MaxPoolGradGrad if len(size) == 4 else tf.raw_ops.MaxPool3DGradGrad
    return operation(
        orig_input=image,
        orig_output=pooled,
        grad=values,
        ksize=size,
        strides=strides,
        padding=padding,
        data_format=layout,
    )


def overwrites(operation: "tf.Operation") -> bool:
    """Returns whether an operation may read what it has overwritten."""
    if operation.type not in OPERATIONS:
        return operation.type in ("MaxPoolGradGradV2", "MaxPoolGradGradWithArgmax")
    if operation.get_attr("padding") == b"VALID" and max(operation.get_attr("ksize")) > 1:
        return False
    image, pooled = operation.inputs[0].shape, operation.inputs[1].shape
    if image.rank is None or pooled.rank is None:
        return True
    return _may_be_equal(image, pooled, range(1, image.rank))


def _may_be_equal(first: "tf.TensorShape", second: "tf.TensorShape", axes: Any) -> bool:
    return all(None in (first[i], second[i]) or first[i] == second[i] for i in axes)


def _gradient(operation: "tf.Operation", grad: "tf.Tensor") -> tuple["tf.Tensor", ...]:
    image, pooled = operation.inputs[0], operation.inputs[1]
    values = at_maxima(image, pooled, grad, operation.get_attr)
    return tf.zeros_like(image), tf.zeros_like(pooled), values


for _name in ("MaxPoolGrad", "MaxPool3DGrad"):
    ops.gradient_registry._registry[_name]["type"] = _gradient
