"""Keras layers and options whose second derivatives are tested, and the table of results.

python tests/thesis_tf/hessian/products/second_derivative_cases.py > docs/hessian_layers.md
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf._keras.objective import Objective
from thesis_tf.hessian.checks import self_check
from thesis_tf.hessian.products import modes

L = keras.layers
IMAGE, VOLUME, SERIES, VECTOR = (6, 6, 4), (4, 4, 4, 2), (6, 4), (5,)
TOLERANCE = 1e-8


def attend(x):
    return L.MultiHeadAttention(2, 3)(x, x)


def causal(x):
    return L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)


def embed(x):
    return L.Embedding(7, 4)(keras.ops.cast(abs(10 * x[..., 0]), "int32") % 7)


def shared(x):
    layer = L.Dense(4, "tanh")
    return layer(layer(x))


# Name: (input shape of an example, a function from a tensor to a tensor).
CASES = {
    "Dense": (VECTOR, L.Dense(4)),
    "Dense in time": (SERIES, L.Dense(3)),
    "Dense, called twice": (SERIES, shared),
    "EinsumDense": (SERIES, L.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d")),
    "Bilinear merge": (VECTOR, lambda x: L.Multiply()([x, L.Dense(5)(x)])),
    "Dot": (SERIES, lambda x: L.Dot(axes=2)([x, L.Dense(4)(x)])),
    "Concatenate, Maximum": (VECTOR, lambda x: L.Concatenate()([x, L.Maximum()([x, -x])])),
    "Conv1D": (SERIES, L.Conv1D(3, 3)),
    "Conv1D, causal, dilated": (SERIES, L.Conv1D(3, 2, padding="causal", dilation_rate=2)),
    "Conv2D": (IMAGE, L.Conv2D(3, 3)),
    "Conv2D, same, strided": (IMAGE, L.Conv2D(3, 3, strides=2, padding="same")),
    "Conv2D, dilated": (IMAGE, L.Conv2D(3, 2, dilation_rate=2)),
    "Conv2D, grouped": (IMAGE, L.Conv2D(4, 3, groups=2)),
    "Conv2D, grouped, dilated": (IMAGE, L.Conv2D(4, 2, groups=2, dilation_rate=2)),
    "Conv3D": (VOLUME, L.Conv3D(2, 2)),
    "Conv3D, strided": (VOLUME, L.Conv3D(2, 2, strides=2)),
    "DepthwiseConv1D": (SERIES, L.DepthwiseConv1D(3)),
    "DepthwiseConv2D": (IMAGE, L.DepthwiseConv2D(3, depth_multiplier=2)),
    "DepthwiseConv2D, strided": (IMAGE, L.DepthwiseConv2D(3, strides=2)),
    "DepthwiseConv2D, dilated": (IMAGE, L.DepthwiseConv2D(2, dilation_rate=2)),
    "SeparableConv1D": (SERIES, L.SeparableConv1D(3, 3)),
    "SeparableConv2D": (IMAGE, L.SeparableConv2D(3, 3)),
    "Conv1DTranspose": (SERIES, L.Conv1DTranspose(3, 3, strides=2)),
    "Conv2DTranspose": (IMAGE, L.Conv2DTranspose(3, 3)),
    "Conv2DTranspose, strided": (IMAGE, L.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "Conv2DTranspose, dilated": (IMAGE, L.Conv2DTranspose(3, 2, dilation_rate=2)),
    "Conv3DTranspose": (VOLUME, L.Conv3DTranspose(2, 2, strides=2)),
    "MaxPooling1D": (SERIES, L.MaxPooling1D(2)),
    "MaxPooling2D": (IMAGE, L.MaxPooling2D()),
    "MaxPooling2D, uneven": ((7, 5, 3), L.MaxPooling2D()),
    "MaxPooling2D, overlapping": (IMAGE, L.MaxPooling2D(3, strides=2, padding="same")),
    "MaxPooling3D": (VOLUME, L.MaxPooling3D()),
    "AveragePooling1D": (SERIES, L.AveragePooling1D(2)),
    "AveragePooling2D": (IMAGE, L.AveragePooling2D(3, strides=2, padding="same")),
    "AveragePooling3D": (VOLUME, L.AveragePooling3D(2)),
    "GlobalAveragePooling2D": (IMAGE, L.GlobalAveragePooling2D()),
    "GlobalMaxPooling2D": (IMAGE, L.GlobalMaxPooling2D()),
    "BatchNormalization": (IMAGE, L.BatchNormalization()),
    "LayerNormalization": (SERIES, L.LayerNormalization()),
    "GroupNormalization": (IMAGE, L.GroupNormalization(2)),
    "RMSNormalization": (SERIES, L.RMSNormalization()),
    "UnitNormalization": (SERIES, L.UnitNormalization()),
    "SpectralNormalization": (VECTOR, L.SpectralNormalization(L.Dense(4))),
    "MultiHeadAttention": (SERIES, attend),
    "MultiHeadAttention, causal": (SERIES, causal),
    "GroupQueryAttention": (SERIES, lambda x: L.GroupQueryAttention(3, 4, 2)(x, x)),
    "Attention": (SERIES, lambda x: L.Attention()([x, x])),
    "AdditiveAttention": (SERIES, lambda x: L.AdditiveAttention()([x, x])),
    "Embedding": (SERIES, embed),
    "SimpleRNN": (SERIES, L.SimpleRNN(3)),
    "SimpleRNN, unrolled": (SERIES, L.SimpleRNN(3, unroll=True)),
    "LSTM": (SERIES, L.LSTM(3)),
    "LSTM, unrolled": (SERIES, L.LSTM(3, unroll=True)),
    "GRU": (SERIES, L.GRU(3, return_sequences=True)),
    "GRU, unrolled": (SERIES, L.GRU(3, unroll=True)),
    "Bidirectional LSTM": (SERIES, L.Bidirectional(L.LSTM(2))),
    "ConvLSTM1D, unrolled": ((3, 6, 2), L.ConvLSTM1D(2, 3, unroll=True)),
    "UpSampling1D": (SERIES, L.UpSampling1D()),
    "UpSampling2D, nearest": (IMAGE, L.UpSampling2D()),
    "UpSampling2D, bilinear": (IMAGE, L.UpSampling2D(interpolation="bilinear")),
    "UpSampling2D, bicubic": (IMAGE, L.UpSampling2D(interpolation="bicubic")),
    "UpSampling3D": (VOLUME, L.UpSampling3D()),
    "Resizing, bilinear": (IMAGE, L.Resizing(4, 9)),
    "Resizing, nearest": (IMAGE, L.Resizing(4, 9, interpolation="nearest")),
    "ZeroPadding2D, Cropping2D": (IMAGE, lambda x: L.Cropping2D()(L.ZeroPadding2D(2)(x))),
    "Permute, Reshape, RepeatVector": (
        SERIES,
        lambda x: L.RepeatVector(2)(L.Reshape((24,))(L.Permute((2, 1))(x))),
    ),
    "Dropout, SpatialDropout2D, GaussianNoise": (
        IMAGE,
        lambda x: L.GaussianNoise(0.5)(L.SpatialDropout2D(0.5)(L.Dropout(0.5)(x))),
    ),
    "Rescaling, Normalization": (
        VECTOR,
        lambda x: L.Normalization(mean=0.5, variance=2.0)(L.Rescaling(2.0, 1.0)(x)),
    ),
    "TimeDistributed Conv1D": ((3, 6, 2), L.TimeDistributed(L.Conv1D(2, 3))),
    "GLU": (SERIES, lambda x: L.Flatten()(keras.activations.glu(x))),
    "PReLU": (SERIES, L.PReLU(alpha_initializer="ones")),
    "LeakyReLU": (SERIES, L.LeakyReLU()),
    "ReLU, capped": (SERIES, L.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.05)),
    "Softmax": (SERIES, L.Softmax()),
    **{
        f"Activation {name}": (SERIES, L.Activation(name))
        for name in (
            "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid",
            "hard_silu", "hard_tanh", "linear", "log_sigmoid", "log_softmax", "mish", "relu",
            "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign",
            "sparse_plus", "sparsemax", "squareplus", "tanh", "tanh_shrink",
        )
    },
}  # fmt: skip


def build(name):
    """Returns a model with parameters before and after the layer, and data for it."""
    shape, layer = CASES[name]
    keras.utils.set_random_seed(0)
    if isinstance(layer, L.Layer):
        layer = layer.__class__.from_config(layer.get_config())
    inputs = keras.Input(shape)
    x = L.Dense(shape[-1], kernel_initializer="glorot_normal", bias_initializer="normal")(inputs)
    x = L.Flatten()(layer(x))
    model = keras.Model(inputs, L.Dense(2)(x))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # so that biases and scales are not at 0 and 1
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    data = rng.normal(size=(3, *shape)), rng.normal(size=(3, 2))
    return model, data


def error(name, mode="forward_over_reverse", kind=modes.HESSIAN):
    """Returns (the relative error of a product in float64, the mode that computed it)."""
    model, (x, y) = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hessian.FallbackWarning)
        gauss_newton = kind is modes.GAUSS_NEWTON
        make = hessian.GaussNewtonOperator if gauss_newton else hessian.HessianOperator
        operator = make(model, "mse", (x.astype("f"), y.astype("f")), mode=mode, check=False)
    objective = Objective(model, "mse")
    with objective.in_float64():
        parameters, constants = objective.read(tf.float64)
        batch = tf.constant(x), tf.constant(y), tf.ones(len(x))
        found = self_check.compare(
            kind.modes[operator.mode](objective),
            lambda *args: kind.differentiated(objective, *args),
            parameters,
            constants,
            batch,
        )
    return found.error, operator.mode


def main():
    print(HEAD)
    for name in CASES:
        print(f"| {name} | {verdict(name)} |", flush=True)


def verdict(name):
    """Returns the cell of the table."""
    try:
        found, mode = error(name)
    except (TypeError, tf.errors.OpError):
        return without_float64(name)
    size = "rounding" if found == 0 else f"{found:.0e}"
    return f"{mode}, {size}" + ("" if found <= TOLERANCE else " WRONG")


def without_float64(name):
    """Returns the cell of a layer that has no float64: two modes are compared in float32."""
    model, (x, y) = build(name)
    try:
        operator = hessian.HessianOperator(model, "mse", (x.astype("f"), y.astype("f")))
    except hessian.SelfCheckError as problem:
        return f"raises {type(problem).__name__}"
    return f"{operator.mode}, two modes agree in float32"


HEAD = """# Second derivatives of Keras layers

This table is generated and tested by `tests/thesis_tf/hessian/products`. For every layer it has the
mode that computes the products of a model with this layer, and their relative error compared with
central differences of the gradient in float64.
"Rounding" means that rounding of the differences explains the error. Each error is at most 1e-8, or
the operator raises an error. Layers without float64 are checked in float32, by two modes that must
agree. TensorFlow computes bilinear and bicubic resizing in float32 for every input dtype, so
"rounding" there is that of float32; another test compares it with its matrix.

| layer | products |
|---|---|"""

if __name__ == "__main__":
    main()
