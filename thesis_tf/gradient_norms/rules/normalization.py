"""Rules of normalization layers whose outputs for one example do not depend on the others."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Full
from thesis_tf.gradient_norms.recording import LayerCall
from thesis_tf.gradient_norms.registry import Forms, register
from thesis_tf.gradient_norms.rules.dense import summed_but

L = keras.layers


@register(L.BatchNormalization, captures=())
def batch_normalization(call: LayerCall) -> Forms:
    """In inference mode, it is an affine map of each channel with a constant mean and variance."""
    refuse_batch_statistics(call)
    layer = call.layer
    x, axis = call.inputs, layer.axis % call.inputs.shape.rank
    shape = [1] * x.shape.rank
    shape[axis] = x.shape[axis]
    mean = tf.reshape(tf.cast(layer.moving_mean.value, x.dtype), shape)
    variance = tf.reshape(tf.cast(layer.moving_variance.value, x.dtype), shape)
    # Subtracted before the sums, which would lose the digits of inputs far from zero.
    moved = summed_but(call.gradient * (x - mean), [axis])
    scale = tf.math.rsqrt(tf.reshape(variance, [-1]) + layer.epsilon)
    yield from _scale_and_offset(layer, moved * scale, summed_but(call.gradient, [axis]))


def refuse_batch_statistics(call: LayerCall) -> None:
    """Raises if a batch normalization uses the batch's own mean and variance."""
    layer = call.layer
    if call.training and layer.trainable:
        raise ValueError(
            f"{layer.name} is a batch normalization in training mode, where an example's output"
            " depends on the whole batch: there is no per-example gradient. Leave out"
            f" training=True, set {layer.name}.trainable = False, or use a normalization within"
            " examples (GroupNormalization, LayerNormalization)."
        )


@register(L.LayerNormalization, captures=(), applies=lambda layer: not layer.rms_scaling)
def layer_normalization(call: LayerCall) -> Forms:
    """Scale and offset of values that are normalized within each example."""
    axes = _axes(call.layer, call.inputs)
    mean, variance = tf.nn.moments(call.inputs, axes, keepdims=True)
    normal = (call.inputs - mean) * tf.math.rsqrt(variance + call.layer.epsilon)
    yield from _scale_and_offset(
        call.layer, summed_but(call.gradient * normal, axes), summed_but(call.gradient, axes)
    )


@register(L.RMSNormalization, captures=())
def rms_normalization(call: LayerCall) -> Forms:
    """The scale of values that are divided by their root mean square."""
    axes = _axes(call.layer, call.inputs)
    square = tf.reduce_mean(tf.square(call.inputs), axes, keepdims=True)
    normal = call.inputs * tf.math.rsqrt(square + call.layer.epsilon)
    yield call.layer.scale, Full(summed_but(call.gradient * normal, axes))


@register(L.GroupNormalization, captures=())
def group_normalization(call: LayerCall) -> Forms:
    """Scale and offset of values that are normalized within groups of channels."""
    layer, x = call.layer, call.inputs
    axis = layer.axis % x.shape.rank
    shape = tf.concat(
        [
            tf.shape(x)[:axis],
            [layer.groups, x.shape[axis] // layer.groups],
            tf.shape(x)[axis + 1 :],
        ],
        axis=0,
    )
    grouped = tf.reshape(x, shape)
    within = [i for i in range(1, x.shape.rank + 1) if i != axis]
    mean, variance = tf.nn.moments(grouped, within, keepdims=True)
    normal = (grouped - mean) * tf.math.rsqrt(variance + layer.epsilon)
    normal = tf.ensure_shape(tf.reshape(normal, tf.shape(x)), x.shape)
    yield from _scale_and_offset(
        layer, summed_but(call.gradient * normal, [axis]), summed_but(call.gradient, [axis])
    )


def _scale_and_offset(layer: keras.layers.Layer, scale: tf.Tensor, offset: tf.Tensor) -> Forms:
    if layer.scale:
        yield layer.gamma, Full(scale)
    if layer.center:
        yield layer.beta, Full(offset)


def _axes(layer: keras.layers.Layer, x: tf.Tensor) -> Sequence[int]:
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return sorted(axis % x.shape.rank for axis in axes)
