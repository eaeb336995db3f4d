"""Rules of recurrent cells; the recorder unrolls their layers, so each step is a call.

The input of an activation function is a sum of matrix products with the kernels, so the kernels'
gradients are outer products with its gradient; those of all steps are joined.
"""

import keras
import tensorflow as tf

from thesis_tf._core.types import Structure
from thesis_tf.gradient_norms.forms import Full, Outer
from thesis_tf.gradient_norms.recording import LayerCall, widened
from thesis_tf.gradient_norms.registry import Forms, register

L = keras.layers
GATES = ("recurrent_activation", "activation")


@register(L.SimpleRNNCell)
def simple_rnn(call: LayerCall) -> Forms:
    """tanh(W x + U h + b)."""
    inputs, state = _given(call)
    yield from _kernels(call.layer, inputs, state, call.gradient)
    if call.layer.bias is not None:
        yield call.layer.bias, Full(call.gradient)


@register(L.LSTMCell, captures=GATES)
def lstm(call: LayerCall) -> Forms:
    """Gates i, f, c, o; the activation's second use, on the carry, has no parameters."""
    inputs, state = _given(call)
    i, f, o = (call.gradient_of(given) for given, _ in call.captured["recurrent_activation"])
    c = call.gradient_of(call.captured["activation"][0][0])
    gates = tf.concat([i, f, c, o], axis=-1)
    yield from _kernels(call.layer, inputs, state, gates)
    if call.layer.use_bias:
        yield call.layer.bias, Full(gates)


@register(L.GRUCell, captures=GATES)
def gru(call: LayerCall) -> Forms:
    """Gates z, r, h; the reset gate acts after U or before it, as `reset_after` says."""
    layer = call.layer
    inputs, state = _given(call)
    (z, _), (r, reset) = call.captured["recurrent_activation"]
    z, r = call.gradient_of(z), call.gradient_of(r)
    h = call.gradient_of(call.captured["activation"][0][0])
    gates, reset = tf.concat([z, r, h], axis=-1), widened(reset)
    yield layer.kernel, _outer(inputs, gates)
    if layer.reset_after:
        inner = tf.concat([z, r, reset * h], axis=-1)
        yield layer.recurrent_kernel, _outer(state, inner)
        if layer.use_bias:
            yield layer.bias, Full(tf.stack([gates, inner], axis=1))
        return
    # The columns of h multiply another vector than the rest: two places, each zero elsewhere.
    twice = tf.stack([state, reset * state], axis=1)
    none = tf.zeros_like(h)
    columns = tf.stack(
        [tf.concat([z, r, none], axis=-1), tf.concat([none, none, h], axis=-1)], axis=1
    )
    yield layer.recurrent_kernel, Outer(twice, columns)
    if layer.use_bias:
        yield layer.bias, Full(gates)


def _given(call: LayerCall) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the inputs and the state of a cell."""
    layer = call.layer
    if call.training and (layer.dropout or layer.recurrent_dropout):
        raise ValueError(
            f"{layer.name} applies dropout inside the cell, which its rule does not support. Leave"
            " out training=True, or use Dropout layers before and after."
        )
    return call.inputs, widened(keras.tree.flatten(states_of(call))[0])


def is_cell(layer: keras.Operation) -> bool:
    """Returns whether a layer is one of the cells that have a rule."""
    return isinstance(layer, (L.SimpleRNNCell, L.LSTMCell, L.GRUCell))


def states_of(call: LayerCall) -> Structure:
    """Returns the states that a cell was called with."""
    args, kwargs = call.arguments
    return args[1] if len(args) > 1 else kwargs["states"]


def _kernels(
    layer: keras.layers.Layer, inputs: tf.Tensor, state: tf.Tensor, gradient: tf.Tensor
) -> Forms:
    yield layer.kernel, _outer(inputs, gradient)
    yield layer.recurrent_kernel, _outer(state, gradient)


def _outer(a: tf.Tensor, d: tf.Tensor) -> Outer:
    return Outer(a[:, tf.newaxis], d[:, tf.newaxis])
