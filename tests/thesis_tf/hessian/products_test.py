"""Products of models with one operation each, in every mode, against differences of gradients.

The differences are those of Keras' own gradients, eager and in float64. The operation is between
two dense layers, and the products are those of the first alone or of both: derivatives must pass
the operation. The self-check is off, so it can't hide a wrong product.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import hessian
from thesis_tf.hessian.products import modes

OPTIMIZED_GRAPHS = True

L, ops = keras.layers, keras.ops
REVERSE = "reverse_over_reverse"


class Tied(L.Layer):
    """A language model whose outputs are h E', with the embeddings E."""

    def __init__(self):
        super().__init__()
        self.table, self.dense = L.Embedding(7, 4), L.Dense(4, "tanh")

    def build(self, shape):
        self.table.build(shape)
        self.dense.build((None, None, 4))

    def call(self, x):
        h = self.table(ops.cast(3 * abs(x), "int32") % 7)
        h = h + self.dense(h) * x[..., tf.newaxis]
        return ops.reshape(ops.matmul(h, ops.transpose(self.table.embeddings)), (-1, 28))


class Decorated(L.Layer):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(4, "tanh")

    def build(self, shape):
        self.dense.build(shape)

    @tf.function
    def call(self, x):
        return self.dense(x)


def series(layer):
    return [L.Reshape((4, 1)), layer, L.Flatten()]


def image(layer):
    return [L.Dense(16, "tanh"), L.Reshape((4, 4, 1)), L.Conv2D(3, 2), layer, L.Flatten()]


def scanned(x):
    carry = ops.ones_like(x[:, 0])
    return ops.transpose(
        ops.scan(lambda c, r: (c * ops.tanh(r), c + r), carry, ops.transpose(x))[1]
    )


def listed(x):
    array = tf.TensorArray(x.dtype, 4).unstack(tf.transpose(x * tf.tanh(x)))
    return tf.transpose(array.stack())


def of_numpy(x):
    y = tf.numpy_function(lambda a: np.tanh(a) * a, [x], x.dtype)
    return x * tf.ensure_shape(y, x.shape)


def sorted_by_numpy(x):
    order = tf.numpy_function(lambda a: np.argsort(a, axis=1).astype("int32"), [x], tf.int32)
    return tf.gather(x * tf.tanh(x), tf.ensure_shape(order, x.shape), batch_dims=1)


def bits(x):
    return x + tf.bitcast(tf.bitcast(x * tf.tanh(x), tf.int64), tf.float64)


# Name: (layers, the modes that support them; None if none does).
EVERY = tuple(modes.HESSIAN.modes)
WITHOUT_FORWARD = ("forward_accumulator", REVERSE)
CASES = {
    "LSTM": (lambda: series(L.LSTM(3)), (REVERSE,)),
    "GRU": (lambda: series(L.GRU(3)), (REVERSE,)),
    "SimpleRNN": (lambda: series(L.SimpleRNN(3)), (REVERSE,)),
    "Bidirectional": (lambda: series(L.Bidirectional(L.LSTM(2))), (REVERSE,)),
    "rfft": (lambda: [L.Lambda(lambda x: tf.math.real(tf.signal.rfft(x)) ** 2)], WITHOUT_FORWARD),
    "abs of rfft": (lambda: [L.Lambda(lambda x: tf.abs(tf.signal.rfft(x)))], WITHOUT_FORWARD),
    "complex": (
        lambda: [L.Lambda(lambda x: tf.math.imag(tf.complex(x, x**2) ** 2))],
        WITHOUT_FORWARD,
    ),
    "angle": (
        lambda: [L.Lambda(lambda x: tf.math.angle(tf.complex(x, x**2 + 1)))],
        WITHOUT_FORWARD,
    ),
    "map_fn": (lambda: [L.Lambda(lambda x: tf.map_fn(lambda r: tf.tanh(r) * r, x))], (REVERSE,)),
    "map": (lambda: [L.Lambda(lambda x: ops.map(lambda r: ops.tanh(r) * r, x))], (REVERSE,)),
    "scan": (lambda: [L.Lambda(scanned)], (REVERSE,)),
    "while_loop": (
        lambda: [
            L.Lambda(
                lambda x: tf.while_loop(
                    lambda i, _: i < tf.minimum(tf.shape(x)[0], 3),
                    lambda i, h: (i + 1, tf.tanh(h) * h + h),
                    (0, x),
                )[1]
            )
        ],
        (REVERSE,),
    ),
    "cond": (
        lambda: [
            L.Lambda(lambda x: ops.cond(ops.sum(x) > -1e9, lambda: ops.tanh(x) * x, lambda: x))
        ],
        (REVERSE,),
    ),
    "vectorized_map": (
        lambda: [L.Lambda(lambda x: tf.vectorized_map(lambda r: tf.tanh(r) * r, x))],
        EVERY,
    ),
    "TensorArray": (lambda: [L.Lambda(listed)], (REVERSE,)),
    "tf.function": (lambda: [Decorated()], EVERY),
    "tied embeddings": (lambda: [Tied()], EVERY),
    "MaxPooling1D": (lambda: series(L.MaxPooling1D(2, strides=1, padding="same")), EVERY),
    "MaxPooling2D": (lambda: image(L.MaxPooling2D(2, strides=1, padding="same")), EVERY),
    "MaxPooling2D, size 3": (lambda: image(L.MaxPooling2D(3, strides=1, padding="same")), EVERY),
    "MaxPooling2D, size 1": (lambda: image(L.MaxPooling2D(1)), EVERY),
    "MaxPooling2D, strided": (lambda: image(L.MaxPooling2D(2, padding="same")), EVERY),
    "numpy_function": (lambda: [L.Lambda(of_numpy)], None),
    "bitcast": (lambda: [L.Lambda(bits)], None),
    "indices by NumPy": (lambda: [L.Lambda(sorted_by_numpy)], EVERY),
}


def differences(model, x, y, variables, v):
    """Returns d/dh of the gradient at theta + h v, by central differences of order 4."""
    start, sizes = [w.numpy() for w in variables], [int(np.prod(w.shape)) for w in variables]
    pieces = np.split(v, np.cumsum(sizes)[:-1])
    parts = [p.reshape(w.shape) for p, w in zip(pieces, start, strict=True)]

    def gradient(step):
        for variable, value, part in zip(variables, start, parts, strict=True):
            variable.assign(value + step * part)
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
            loss = tf.reduce_mean(losses)
        found = tape.gradient(loss, [w.value for w in variables])
        return np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in found])

    h = 1e-4
    result = 8 * (gradient(h) - gradient(-h)) - (gradient(2 * h) - gradient(-2 * h))
    gradient(0.0)
    return result / (12 * h)


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *((name, "first") for name in CASES),
        *((name, None) for name in ("LSTM", "complex", "tf.function", "tied embeddings")),
    ],
)
def test_products(name, parameters, float64):
    make, supported = CASES[name]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(4, "tanh", name="first"), *make(), L.Dense(2, name="last")]
    )
    x, y = np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 2
    model(x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    chosen = model if parameters is None else model.get_layer(parameters)
    size = sum(int(np.prod(w.shape)) for w in chosen.trainable_variables)
    v = np.random.default_rng(1).normal(size=size)
    expected = differences(model, x, y, chosen.trainable_variables, v)
    for mode in modes.HESSIAN.modes:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", hessian.FallbackWarning)
            if supported is None:
                with pytest.raises(hessian.SelfCheckError, match="has no gradient in TensorFlow"):
                    hessian.HessianOperator(model, loss, (x, y), mode=mode, check=False)
                continue
            operator = hessian.HessianOperator(
                model, loss, (x, y), mode=mode, parameters=parameters, check=False
            )
        fell_back = any(w.category is hessian.FallbackWarning for w in caught)
        # The choice of the mode may get better with TensorFlow; the products must be right.
        assert fell_back == (operator.mode != mode)
        if mode in supported:
            assert not fell_back, mode
        for _ in range(50 if "same" in name or "2D" in name else 1):
            error = np.linalg.norm(operator @ v - expected) / np.linalg.norm(expected)
            assert error < 1e-7, mode


@pytest.mark.slow
def test_forward_mode_of_layer_normalization_in_a_tied_model():
    # The other modes lose what TensorFlow's variance stops, which the self-check refuses.
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), L.Dense(4), Tied(), L.LayerNormalization()])
    x, y = np.random.default_rng(0).normal(size=(6, 5)).astype("f"), np.zeros((6, 28), "f")
    hessian.HessianOperator(model, "mse", (x, y))
    for mode in (REVERSE, "forward_accumulator"):
        with pytest.raises(hessian.SelfCheckError, match=r"LayerNormalization"):
            hessian.HessianOperator(model, "mse", (x, y), mode=mode)
