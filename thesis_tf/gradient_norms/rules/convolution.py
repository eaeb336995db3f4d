"""Rules of convolutions in one to three axes: grouped, depthwise, separable and transposed."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Form, Full, Outer, with_places
from thesis_tf.gradient_norms.recording import LayerCall
from thesis_tf.gradient_norms.registry import Forms, register
from thesis_tf.gradient_norms.rules.convolution_form import Convolution, depthwise
from thesis_tf.gradient_norms.rules.dense import bias, plain

L = keras.layers


@register(L.Conv1D, L.Conv2D, L.Conv3D, applies=plain)
def convolution(call: LayerCall) -> Forms:
    """sum_t x_(t s + k e) d_t' for each kernel element k; a kernel of one pixel is a product."""
    layer = call.layer
    x, d = _channels_last(layer, call.inputs), _channels_last(layer, call.gradient)
    yield layer.kernel, _form(layer, _padded(layer, x), d, layer.groups)
    yield from bias(layer, d)


@register(L.DepthwiseConv1D, L.DepthwiseConv2D)
def depthwise_convolution(call: LayerCall) -> Forms:
    """Yields explicit gradients, since they have few elements per example."""
    layer = call.layer
    x, d = _channels_last(layer, call.inputs), _channels_last(layer, call.gradient)
    yield layer.kernel, Full(depthwise(_padded(layer, x), d, *_geometry(layer)))
    yield from bias(layer, d)


@register(L.SeparableConv1D, L.SeparableConv2D)
def separable_convolution(call: LayerCall) -> Forms:
    """Combines a depthwise convolution, whose output is computed again, with a matrix product."""
    layer = call.layer
    x, d = _channels_last(layer, call.inputs), _channels_last(layer, call.gradient)
    first, second = layer.depthwise_kernel, layer.pointwise_kernel
    between = keras.ops.depthwise_conv(
        x,
        tf.cast(first.value, x.dtype),
        layer.strides,
        layer.padding,
        "channels_last",
        layer.dilation_rate,
    )
    pointwise = tf.reshape(tf.cast(second.value, d.dtype), second.shape[-2:])
    d_between = tf.tensordot(d, pointwise, [[-1], [1]])
    yield first, Full(depthwise(_padded(layer, x), d_between, *_geometry(layer)))
    axes = list(range(len(second.shape)))
    yield second, Outer(with_places(between), with_places(d), shape=second.shape, axes=axes)
    yield from bias(layer, d)


@register(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
def transposed_convolution(call: LayerCall) -> Forms:
    """Uses the rule of a convolution from outputs to inputs."""
    layer = call.layer
    x, d = _channels_last(layer, call.inputs), _channels_last(layer, call.gradient)
    yield layer.kernel, _form(layer, _padded(layer, d, places=x), x)
    yield from bias(layer, d)


def _form(layer: keras.layers.Layer, x: tf.Tensor, d: tf.Tensor, groups: int = 1) -> Form:
    size, strides, dilations = _geometry(layer)
    if groups == 1 and all(n == 1 for n in size):
        lengths = [n or tf.shape(d)[1 + i] for i, n in enumerate(d.shape[1:-1])]
        last = [(n - 1) * s + 1 for n, s in zip(lengths, strides, strict=True)]
        x = x[(slice(None), *(slice(0, n, s) for n, s in zip(last, strides, strict=True)))]
        shape = [*size, x.shape[-1], d.shape[-1]]
        return Outer(with_places(x), with_places(d), shape=shape)
    return Convolution(x, d, size, strides, dilations, groups=groups)


def _geometry(
    layer: keras.layers.Layer,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    rank = len(layer.kernel_size)
    return tuple(layer.kernel_size), _each(layer.strides, rank), _each(layer.dilation_rate, rank)


def _each(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _channels_last(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    if layer.data_format == "channels_last":
        return x
    return tf.transpose(x, [0, *range(2, x.shape.rank), 1])


def _padded(layer: keras.layers.Layer, x: tf.Tensor, places: tf.Tensor | None = None) -> tf.Tensor:
    """Pads pixels as the layer does.

    Args:
        layer: the layer.
        x: (batch, *pixels, channels), over which the kernel moves.
        places: for a transposed convolution its input (batch, *places, channels), which determines
            how many places the kernel has.
    """
    size, strides, dilations = _geometry(layer)
    pads = [[0, 0]]
    for axis, (k, s, e) in enumerate(zip(size, strides, dilations, strict=True), 1):
        reach = (k - 1) * e + 1
        if layer.padding == "causal":
            pads.append([reach - 1, 0])
        elif layer.padding == "valid":
            pads.append([0, 0])
        else:  # TensorFlow's "SAME"
            pixels = x.shape[axis] or tf.shape(x)[axis]
            count = -(-pixels // s) if places is None else places.shape[axis]
            count = tf.shape(places)[axis] if count is None else count
            total = (count - 1) * s + reach - pixels
            known = isinstance(total, int)
            total = max(total, 0) if known else tf.maximum(total, 0)
            pads.append([total // 2, total - total // 2])
    pads.append([0, 0])
    return tf.pad(x, pads) if layer.padding != "valid" else x
