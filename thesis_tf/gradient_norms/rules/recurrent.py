"""Rules of recurrent cells; the recorder unrolls their layers, so each step is a call of its own.

What enters an activation function is what the weights are multiplied into, so its gradient is that
of a matrix product; the products of all steps are joined.
"""

import keras
import tensorflow as tf

from thesis_tf.gradient_norms.forms import Full, Outer
from thesis_tf.gradient_norms.recording import widened
from thesis_tf.gradient_norms.registry import register

GATES = ("recurrent_activation", "activation")


@register(keras.layers.SimpleRNNCell)
def simple_rnn(call):
    """tanh(W x + U h + b)."""
    inputs, state = _given(call)
    yield from _kernels(call.layer, inputs, state, call.gradient)
    if call.layer.bias is not None:
        yield call.layer.bias, Full(call.gradient)


@register(keras.layers.LSTMCell, captures=GATES)
def lstm(call):
    """Gates i, f, c, o; the activation's second use, of the carry, has no weights."""
    inputs, state = _given(call)
    i, f, o = (call.gradient_of(given) for given, _ in call.captured["recurrent_activation"])
    c = call.gradient_of(call.captured["activation"][0][0])
    gates = tf.concat([i, f, c, o], axis=-1)
    yield from _kernels(call.layer, inputs, state, gates)
    if call.layer.use_bias:
        yield call.layer.bias, Full(gates)


@register(keras.layers.GRUCell, captures=GATES)
def gru(call):
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
    # The columns of h meet another vector than the others: two places, each zero for the rest.
    twice = tf.stack([state, reset * state], axis=1)
    none = tf.zeros_like(h)
    columns = tf.stack(
        [tf.concat([z, r, none], axis=-1), tf.concat([none, none, h], axis=-1)], axis=1
    )
    yield layer.recurrent_kernel, Outer(twice, columns)
    if layer.use_bias:
        yield layer.bias, Full(gates)


def _given(call):
    """The inputs and the state of a cell."""
    layer = call.layer
    if call.training and (layer.dropout or layer.recurrent_dropout):
        raise ValueError(
            f"{layer.name} drops out units of what it is given, which its rule does not see. Leave"
            " out training=True, or use Dropout layers before and after."
        )
    args, kwargs = call.arguments
    states = args[1] if len(args) > 1 else kwargs["states"]
    return call.inputs, widened(keras.tree.flatten(states)[0])


def _kernels(layer, inputs, state, gradient):
    yield layer.kernel, _outer(inputs, gradient)
    yield layer.recurrent_kernel, _outer(state, gradient)


def _outer(a, d):
    return Outer(a[:, tf.newaxis], d[:, tf.newaxis])
