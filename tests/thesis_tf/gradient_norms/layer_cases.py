"""Keras layers and options whose per-example gradient norms are compared with Jacobians."""

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
IMAGE, VOLUME, SERIES, VECTOR = (6, 6, 4), (4, 5, 4, 2), (6, 4), (5,)


class Squashed(L.Layer):
    """A layer without a rule that is a complicated function of its weights."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")
        self.inner = L.Dense(3)
        self.inner.build((*shape[:-1], 3))

    def call(self, x):
        return self.inner(keras.ops.tanh(keras.ops.matmul(x, keras.ops.sin(self.w))))


def attend(x):
    return L.MultiHeadAttention(2, 3)(x, x)


def ids(x):
    return keras.ops.cast(abs(10 * x[..., 0]), "int32") % 7


def of(kind, *args, **kwargs):
    return lambda x: kind(*args, **kwargs)(x)


def twice(kind, *args, **kwargs):
    def call(x):
        layer = kind(*args, **kwargs)
        return layer(layer(x))

    return call


def at_two_lengths(kind, *args, **kwargs):
    def call(x):
        layer = kind(*args, **kwargs)
        return L.Concatenate(axis=1)([layer(x), layer(L.Cropping1D((1, 2))(x))])

    return call


def masked(kind, *args, **kwargs):
    layer_of = of(kind, *args, **kwargs)
    return lambda x: layer_of(L.Masking()(x * keras.ops.cast(x[..., :1] > 0, x.dtype)))


def masked_and_pooled(*layers):
    """Layers that pass on the mask to a layer that needs it."""

    def call(x):
        x = L.Masking()(x * keras.ops.cast(x[..., :1] > 0, x.dtype))
        for layer in layers:
            x = layer()(x)
        return L.GlobalAveragePooling1D()(x)

    return call


class MaskedMean(L.Layer):
    """A layer without a rule whose output depends on a mask."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x, mask=None):
        shares = keras.ops.cast(mask, x.dtype)[..., None]
        return keras.ops.sum(shares * keras.ops.matmul(x, keras.ops.sin(self.w)), axis=1)


def twice_embedded(x):
    table = L.Embedding(7, 4)
    first = table(ids(x))
    return L.Concatenate()([first, table(ids(first))])


def own_twice(x):
    layer = Squashed()
    return L.Concatenate()([layer(x), layer(L.Rescaling(2.0)(x))])


class Tied(L.Layer):
    """Uses the weight of another layer, like the output of a language model."""

    def __init__(self):
        super().__init__()
        self.table = L.Embedding(7, 4)

    def build(self, shape):
        self.table.build()

    def call(self, x):
        embedded = self.table(ids(x))
        return keras.ops.matmul(embedded, keras.ops.transpose(self.table.embeddings))


# Name: (input shape of an example, a function from a tensor to a tensor).
CASES = {
    "Dense": (VECTOR, of(L.Dense, 4)),
    "Dense, relu": (VECTOR, of(L.Dense, 4, "relu")),
    "Dense, no bias": (VECTOR, of(L.Dense, 4, use_bias=False)),
    "Dense in time": (SERIES, of(L.Dense, 3, "tanh")),
    "Dense in time, Gram": (SERIES, of(L.Dense, 30, "tanh")),
    "Dense on images": (IMAGE, of(L.Dense, 3)),
    "Dense, called twice": (SERIES, twice(L.Dense, 4, "tanh")),
    "Dense, on two lengths": (SERIES, at_two_lengths(L.Dense, 4, "tanh")),
    "Dense, one frozen": (VECTOR, of(L.Dense, 4, trainable=False)),
    "Dense, regularized": (
        SERIES,
        of(L.Dense, 4, "tanh", kernel_regularizer="l1l2", bias_regularizer="l2"),
    ),
    "EinsumDense": (SERIES, of(L.EinsumDense, "abc,cd->abd", (6, 3), bias_axes="d")),
    "EinsumDense, two axes": (
        SERIES,
        of(L.EinsumDense, "abc,cde->abde", (6, 2, 3), bias_axes="de"),
    ),
    "EinsumDense, kernel transposed": (
        SERIES,
        of(L.EinsumDense, "abc,dc->abd", (6, 3), bias_axes="d"),
    ),
    "EinsumDense, contracts two": (SERIES, of(L.EinsumDense, "abc,bcd->ad", (3,), bias_axes="d")),
    "EinsumDense, per place": (SERIES, of(L.EinsumDense, "abc,bcd->abd", (6, 3), bias_axes="bd")),
    "EinsumDense, bias of one axis": (
        SERIES,
        of(L.EinsumDense, "abc,cd->abd", (6, 3), bias_axes="b"),
    ),
    "EinsumDense, ellipsis": (IMAGE, of(L.EinsumDense, "...x,xy->...y", 3, bias_axes="y")),
    "EinsumDense, regularized": (
        SERIES,
        of(L.EinsumDense, "abc,bdc->abd", (6, 3), bias_axes="bd", kernel_regularizer="l2"),
    ),
    "Conv1D": (SERIES, of(L.Conv1D, 3, 3, activation="tanh")),
    "Conv1D, causal, dilated": (SERIES, of(L.Conv1D, 3, 2, padding="causal", dilation_rate=2)),
    "Conv1D, same, strided": (SERIES, of(L.Conv1D, 3, 3, padding="same", strides=2)),
    "Conv1D, Gram": (SERIES, of(L.Conv1D, 40, 3)),
    "Conv1D, on two lengths": (SERIES, at_two_lengths(L.Conv1D, 4, 3, padding="same")),
    "Conv2D": (IMAGE, of(L.Conv2D, 3, 3, activation="relu")),
    "Conv2D, valid, uneven": ((7, 5, 3), of(L.Conv2D, 3, (3, 2), strides=(2, 1))),
    "Conv2D, same, strided": (IMAGE, of(L.Conv2D, 3, 3, strides=2, padding="same")),
    "Conv2D, strided past the end": ((8, 8, 2), of(L.Conv2D, 3, 3, strides=3)),
    "Conv2D, dilated": (IMAGE, of(L.Conv2D, 3, 2, dilation_rate=2, padding="same")),
    "Conv2D, one pixel": (IMAGE, of(L.Conv2D, 3, 1)),
    "Conv2D, one pixel, strided": (IMAGE, of(L.Conv2D, 3, 1, strides=2, padding="same")),
    "Conv2D, Gram": ((4, 4, 20), of(L.Conv2D, 40, 3, padding="same")),
    "Conv2D, Gram, strided": ((5, 5, 20), of(L.Conv2D, 60, 3, padding="same", strides=2)),
    "Conv2D, Gram, dilated": ((5, 5, 20), of(L.Conv2D, 60, 2, dilation_rate=2)),
    "Conv2D, many channels": ((6, 6, 20), of(L.Conv2D, 2, 3)),
    "Conv2D, grouped": (IMAGE, of(L.Conv2D, 4, 3, groups=2)),
    "Conv2D, grouped, strided": (IMAGE, of(L.Conv2D, 4, 3, groups=2, strides=2, padding="same")),
    "Conv2D, called twice": (IMAGE, twice(L.Conv2D, 4, 3, padding="same")),
    "Conv2D, regularized": (IMAGE, of(L.Conv2D, 3, 3, strides=2, kernel_regularizer="l2")),
    "Conv2D, grouped, regularized": (IMAGE, of(L.Conv2D, 4, 3, groups=2, kernel_regularizer="l2")),
    "Conv2D, one pixel, regularized": (IMAGE, of(L.Conv2D, 3, 1, kernel_regularizer="l2")),
    "Conv3D": (VOLUME, of(L.Conv3D, 2, 2)),
    "Conv3D, strided": (VOLUME, of(L.Conv3D, 2, 2, strides=2, padding="same")),
    "Conv3D, Gram": ((2, 2, 3, 20), of(L.Conv3D, 40, 2, padding="same")),
    "DepthwiseConv1D": (SERIES, of(L.DepthwiseConv1D, 3)),
    "DepthwiseConv1D, regularized": (SERIES, of(L.DepthwiseConv1D, 3, depthwise_regularizer="l2")),
    "DepthwiseConv2D": (IMAGE, of(L.DepthwiseConv2D, 3, depth_multiplier=2)),
    "DepthwiseConv2D, strided": (IMAGE, of(L.DepthwiseConv2D, 3, strides=2, padding="same")),
    "DepthwiseConv2D, dilated": (IMAGE, of(L.DepthwiseConv2D, 2, dilation_rate=2)),
    "SeparableConv1D": (SERIES, of(L.SeparableConv1D, 3, 3, activation="tanh")),
    "SeparableConv2D": (IMAGE, of(L.SeparableConv2D, 3, 3, depth_multiplier=2)),
    "SeparableConv2D, strided": (IMAGE, of(L.SeparableConv2D, 3, 3, strides=2, padding="same")),
    "SeparableConv2D, regularized": (
        IMAGE,
        of(L.SeparableConv2D, 3, 3, pointwise_regularizer="l2", depthwise_regularizer="l2"),
    ),
    "Conv1DTranspose": (SERIES, of(L.Conv1DTranspose, 3, 3, strides=2)),
    "Conv2DTranspose": (IMAGE, of(L.Conv2DTranspose, 3, 3)),
    "Conv2DTranspose, strided": (IMAGE, of(L.Conv2DTranspose, 3, 3, strides=2, padding="same")),
    "Conv2DTranspose, output padding": (
        IMAGE,
        of(L.Conv2DTranspose, 3, 3, strides=2, padding="valid", output_padding=1),
    ),
    "Conv2DTranspose, regularized": (
        IMAGE,
        of(L.Conv2DTranspose, 3, 3, strides=2, padding="same", kernel_regularizer="l2"),
    ),
    "Conv3DTranspose": (VOLUME, of(L.Conv3DTranspose, 2, 2, strides=2)),
    "Embedding": (SERIES, lambda x: L.Embedding(7, 4)(ids(x))),
    "Embedding, of one id": (VECTOR, lambda x: L.Embedding(7, 4)(ids(x))),
    "Embedding, called twice": (SERIES, twice_embedded),
    "Embedding, regularized": (
        SERIES,
        lambda x: L.Embedding(7, 4, embeddings_regularizer="l2")(ids(x)),
    ),
    "Embedding, tied": (SERIES, of(Tied)),
    "BatchNormalization": (IMAGE, of(L.BatchNormalization)),
    "BatchNormalization, axis 1": (IMAGE, of(L.BatchNormalization, axis=1)),
    "BatchNormalization, no scale": (IMAGE, of(L.BatchNormalization, scale=False)),
    "LayerNormalization": (SERIES, of(L.LayerNormalization)),
    "LayerNormalization, two axes": (IMAGE, of(L.LayerNormalization, axis=[1, 3])),
    "LayerNormalization, rms scaling": (SERIES, of(L.LayerNormalization, rms_scaling=True)),
    "GroupNormalization": (IMAGE, of(L.GroupNormalization, 2)),
    "GroupNormalization, axis 1": (IMAGE, of(L.GroupNormalization, 3, axis=1)),
    "RMSNormalization": (SERIES, of(L.RMSNormalization)),
    "PReLU": (IMAGE, of(L.PReLU, alpha_initializer="ones")),
    "PReLU, shared": (IMAGE, of(L.PReLU, alpha_initializer="ones", shared_axes=[1, 2])),
    "MultiHeadAttention": (SERIES, attend),
    "MultiHeadAttention, causal": (
        SERIES,
        lambda x: L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    ),
    "GroupQueryAttention": (SERIES, lambda x: L.GroupQueryAttention(3, 4, 2)(x, x)),
    "AdditiveAttention": (SERIES, lambda x: L.AdditiveAttention()([x, x])),
    "SimpleRNN": (SERIES, of(L.SimpleRNN, 3)),
    "LSTM": (SERIES, of(L.LSTM, 3)),
    "LSTM, sequences, backwards": (SERIES, of(L.LSTM, 3, return_sequences=True, go_backwards=True)),
    "LSTM, implementation 1": (SERIES, lambda x: L.RNN(L.LSTMCell(3, implementation=1))(x)),
    "LSTM, no bias": (SERIES, of(L.LSTM, 3, use_bias=False)),
    "LSTM, masked": (SERIES, masked(L.LSTM, 3)),
    "LSTM, regularized": (SERIES, of(L.LSTM, 3, kernel_regularizer="l2", bias_regularizer="l2")),
    "LSTM, stacked cells": (SERIES, lambda x: L.RNN([L.LSTMCell(3), L.GRUCell(2)])(x)),
    "Bidirectional LSTM": (SERIES, lambda x: L.Bidirectional(L.LSTM(2))(x)),
    "Bidirectional LSTM, masked and pooled": (
        SERIES,
        masked_and_pooled(lambda: L.Bidirectional(L.LSTM(2, return_sequences=True))),
    ),
    "Bidirectional GRU, masked, before an LSTM": (
        SERIES,
        masked_and_pooled(
            lambda: L.Bidirectional(L.GRU(2, return_sequences=True)),
            lambda: L.LSTM(3, return_sequences=True),
        ),
    ),
    "GRU": (SERIES, of(L.GRU, 3, return_sequences=True)),
    "GRU, reset before": (SERIES, of(L.GRU, 3, reset_after=False)),
    "GRU, implementation 1": (SERIES, lambda x: L.RNN(L.GRUCell(3, implementation=1))(x)),
    "GRU, no bias": (SERIES, of(L.GRU, 3, use_bias=False)),
    "ConvLSTM1D": ((3, 6, 2), of(L.ConvLSTM1D, 2, 3)),
    "TimeDistributed Conv1D": ((3, 6, 2), lambda x: L.TimeDistributed(L.Conv1D(2, 3))(x)),
    "SpectralNormalization": (VECTOR, lambda x: L.SpectralNormalization(L.Dense(4))(x)),
    "A layer of one's own": (SERIES, of(Squashed)),
    "A layer of one's own, called twice": (SERIES, own_twice),
    "A layer of one's own, masked": (SERIES, masked(MaskedMean)),
    "A model in a model, masked and pooled": (
        SERIES,
        masked_and_pooled(lambda: keras.Sequential([L.Dense(3, "tanh")])),
    ),
    "A model in a model": (
        SERIES,
        lambda x: keras.Sequential([L.Dense(4, "tanh"), L.Conv1D(3, 2)])(x),
    ),
}


def build(name, dtype="float64"):
    """Returns a model with parameters before and after the layer, and data for it."""
    shape, layer = CASES[name]
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        inputs = keras.Input(shape)
        x = L.Dense(shape[-1], kernel_initializer="glorot_normal")(inputs)
        model = keras.Model(inputs, L.Dense(2)(L.Flatten()(layer(x))))
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # so that biases and scales are not at 0 and 1
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    return model, (rng.normal(size=(5, *shape)), rng.normal(size=(5, 2)))


def jacobian_squares(model, x, y):
    """Returns the squared norms of each example's gradient by `tape.jacobian`, per variable."""
    with tf.GradientTape(persistent=True) as tape:
        losses = tf.reduce_mean(tf.square(model(x, training=False) - y), axis=-1)
        losses += tf.add_n(model.losses) if model.losses else 0.0
    variables = model.trainable_variables
    jacobians = tape.jacobian(losses, variables, experimental_use_pfor=False)
    jacobians = [
        tf.zeros((len(x), *v.shape), losses.dtype) if j is None else j
        for v, j in zip(variables, jacobians, strict=True)
    ]
    return [
        tf.reduce_sum(tf.square(tf.reshape(tf.convert_to_tensor(j), [len(x), -1])), axis=1)
        for j in jacobians
    ]
