import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.parameter_vector import VectorLayout
from thesis_tf.hessian import HessianOperator, SelfCheckError
from thesis_tf.hessian.checks import self_check
from thesis_tf.hessian.products import modes
from thesis_tf.hessian.products.averages import Averages
from thesis_tf.hessian.products.fallback import UnsupportedError


def series(n=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 5, 4)).astype("f"), rng.normal(size=(n, 2)).astype("f")


def around(*layers):
    """Returns a model with the layers between two dense layers."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    ends = [keras.layers.Flatten(), dense(2)]
    return keras.Sequential([keras.Input((5, 4)), dense(4, "tanh"), *layers, *ends])


@pytest.mark.slow
def test_a_wrong_layer_is_named():
    # TensorFlow's variance stops a gradient, so reverse mode over reverse mode loses a term.
    model = around(keras.layers.LayerNormalization(name="culprit"))
    message = (
        r"reverse_over_reverse differ .* It comes from culprit \(LayerNormalization\)"
        r".* another `mode`"
    )
    with pytest.raises(SelfCheckError, match=message):
        HessianOperator(model, "mse", series(), mode="reverse_over_reverse")
    HessianOperator(model, "mse", series(), mode="reverse_over_reverse", check=False)
    HessianOperator(model, "mse", series())


@pytest.mark.slow
def test_a_wrong_loss_is_not_blamed_on_a_layer():
    @tf.custom_gradient
    def wrong(x):
        def first(upstream):
            @tf.custom_gradient
            def product(x):
                return 2 * x, lambda second: 3 * second  # the correct derivative of 2 x is 2

            return upstream * product(x)

        return x**2, first

    def loss(y, outputs):
        return tf.reduce_sum(wrong(outputs), axis=1)

    with pytest.raises(SelfCheckError, match="No layer by itself is wrong: it may be the loss"):
        HessianOperator(around(), loss, series(), mode="reverse_over_reverse")


def test_a_stopped_gradient_is_not_symmetric():
    def loss(y, outputs):
        return tf.reduce_sum(outputs * tf.stop_gradient(outputs[:, ::-1] ** 2), axis=1)

    with pytest.raises(SelfCheckError, match=r"u'Hv = .* v'Hu = .* stops gradients"):
        HessianOperator(around(), loss, series())


def test_random_numbers_at_inference():
    def loss(y, outputs):
        return tf.reduce_sum(outputs**2, axis=1) * tf.random.uniform((), dtype=outputs.dtype)

    with pytest.raises(SelfCheckError, match=r"differ|differently"):
        HessianOperator(around(), loss, series())


def test_random_numbers_in_a_layer():
    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    with pytest.raises(SelfCheckError, match=r"was different the second time.*random numbers"):
        HessianOperator(around(Noise()), "mse", series())


@pytest.mark.slow
def test_a_loss_that_mixes_examples():
    x, y = series()
    with pytest.raises(SelfCheckError, match=r"depends on the other.*\(4, 2\).*mixes examples"):
        HessianOperator(around(), lambda y, o: (o - tf.reduce_mean(y, axis=0)) ** 2, (x, y))
    HessianOperator(around(), lambda y, o: (o - y) ** 2, (x, y))


@pytest.mark.slow
@pytest.mark.parametrize("layer", [keras.layers.ReLU(), keras.layers.MaxPooling1D(2)])
def test_kinks_are_no_errors(layer):
    # The same is true if all units are at their kink, as for black images and biases of zero.
    x, y = series()
    HessianOperator(around(layer), "mse", (np.zeros_like(x), y))
    HessianOperator(around(layer), "mse", (x, y))


def test_a_linear_model_has_no_curvature():
    model = around()
    operator = HessianOperator(
        model, lambda y, p: tf.reduce_sum(p, 1), series(), parameters="dense*/bias"
    )
    assert operator.shape == (6, 6)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["weights", "inputs"])
def test_a_loss_that_is_not_finite(value, where):
    model, (x, y) = around(), series()
    if where == "weights":
        model.layers[-1].bias.assign([value, 0.0])
    else:
        x[3, 0, 0] = value
    with pytest.raises(SelfCheckError, match=r"must be finite. Received: a loss of"):
        HessianOperator(model, "mse", (x, y))


@pytest.mark.slow
def test_data_that_change_from_pass_to_pass():
    rng = np.random.default_rng(0)

    def augmented(x, y):
        noise = tf.numpy_function(lambda x: rng.normal(size=x.shape).astype("f"), [x], "float32")
        return x + tf.ensure_shape(noise, x.shape), y

    still = tf.data.Dataset.from_tensor_slices(series(12)).batch(5)
    model = around()
    for dataset in (still.unbatch().shuffle(12).batch(5), still.map(augmented)):
        with pytest.raises(SelfCheckError, match="changes from pass to pass, first in batch 0"):
            HessianOperator(model, "mse", dataset, batch_size=4)
    HessianOperator(model, "mse", still, batch_size=4)
    fixed = still.unbatch().shuffle(12, seed=1, reshuffle_each_iteration=False).batch(5)
    HessianOperator(model, "mse", fixed, batch_size=4)


def volumes():
    """Returns a model with a layer that TensorFlow doesn't have in float64, and data."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 4, 1)),
            layers.Conv3D(2, 1, activation="tanh"),
            layers.MaxPooling3D(2, strides=1, padding="same"),
            layers.Conv3D(2, 2, activation="tanh", name="after"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(4, 4, 4, 4, 1)).astype("f"), rng.normal(size=(4, 2)).astype("f")


def test_a_layer_that_has_no_float64_is_checked_by_two_modes(monkeypatch):
    model, x, y = volumes()
    operator = HessianOperator(model, "mse", (x, y))
    v = np.random.default_rng(1).normal(size=operator.shape[0]).astype("f")
    other = HessianOperator(model, "mse", (x, y), mode="reverse_over_reverse") @ v
    np.testing.assert_allclose(operator @ v, other, atol=1e-4 * np.linalg.norm(other))
    product = modes.ReverseOverReverse.product
    monkeypatch.setattr(
        modes.ReverseOverReverse, "product", lambda self, *args: 1.01 * product(self, *args)
    )
    with pytest.raises(SelfCheckError, match=r"one of them is wrong.*float64.*replace") as refused:
        HessianOperator(model, "mse", (x, y))
    assert "check=False" not in str(refused.value)


def test_what_can_not_be_checked_is_said(monkeypatch):
    def refused(self, *args):
        raise UnsupportedError("no forward mode")

    model, x, y = volumes()
    monkeypatch.setattr(modes.ForwardOverReverse, "keep", refused)
    message = r"can't be checked.*float64.*check=False, compare products with differences"
    with pytest.raises(SelfCheckError, match=message):
        HessianOperator(model, "mse", (x, y), mode="reverse_over_reverse")


def nested(kind):
    """Returns layers whose input depends on parameters, as one sub-model or as they are."""
    dense = keras.layers.Dense
    inner = [dense(5, "tanh"), keras.layers.LayerNormalization(), dense(4, "tanh")]
    if kind == "plain":
        return inner
    if kind == "sequential":
        return [keras.Sequential([keras.Input((5, 4)), *inner])]
    if kind == "unbuilt":
        return [keras.Sequential(inner)]
    inputs = outputs = keras.Input((5, 4))
    for layer in inner:
        outputs = layer(outputs)
    return [keras.Sequential([keras.Model(inputs, outputs)])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequential", "unbuilt", "functional"])
def test_nested_models_are_as_their_layers(kind):
    # Keras casts what a sub-model is called with to the dtype of its inputs.
    x, y = series()
    products, weights = [], []
    for one in ("plain", kind):
        model = around(*nested(one))
        model.set_weights(weights or model.get_weights())
        weights = model.get_weights()
        operator = HessianOperator(model, "mse", (x, y))
        products.append(operator @ np.eye(operator.shape[0], dtype="f"))
        dtypes = {t.dtype for layer in model.layers for t in [*getattr(layer, "inputs", [])]}
        assert dtypes <= {"float32"}
    np.testing.assert_allclose(*products, atol=1e-6 * abs(products[0]).max())


def test_a_layer_that_computes_in_float32():
    class Norm(keras.layers.Layer):
        def call(self, x):
            single = keras.ops.cast(x, "float32")
            scale = keras.ops.rsqrt(keras.ops.mean(single**2, axis=-1, keepdims=True) + 1e-6)
            return keras.ops.cast(single * scale, self.compute_dtype)

    class Wrong(Norm):
        def call(self, x):
            return super().call(x) * tf.stop_gradient(1 + 0.1 * x)

    HessianOperator(around(Norm()), "mse", series())
    with pytest.raises(SelfCheckError) as refused:
        HessianOperator(around(Wrong()), "mse", series(), mode="reverse_over_reverse")
    assert "partly float32" in str(refused.value)


def test_rounding_errors_are_no_agreement():
    # In float32, differences of a steep but nearly linear function say nothing.
    class Single:
        def __init__(self):
            self.layout = VectorLayout([tf.zeros(5, tf.float64)])
            self.objective = self

        def keep(self, parameters, constants, x, y, weights):
            return [tf.cast(parameters[0], tf.float32)]

        def product(self, vector, parameters, constants, kept):
            return 1e-6 * vector

        def gradient(self, parameters, frozen, constants, batch):
            return tf.cast(tf.cast(parameters[0], tf.float32), tf.float64)

    single, start = Single(), [tf.ones(5, tf.float64)]
    found = self_check.compare(single, single.gradient, start, [], (tf.zeros(()),) * 3)
    assert not found.precise
    assert not found.decided
    assert found.error == np.inf


def test_a_layer_made_in_call():
    class Late(keras.layers.Layer):
        def call(self, x):
            return keras.layers.Activation("tanh")(x)

    HessianOperator(around(Late()), "mse", series())
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("distance", [1, 20, 60])
def test_a_softmax_far_from_its_kink(distance):
    # Where p - 1 rounds to 0 or to multiples of epsilon, differences say nothing.
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("f")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    kernel, bias = model.get_weights()
    logits = np.sort(x @ kernel, axis=1)
    kernel *= distance / np.median(logits[:, -1] - logits[:, -2])
    model.set_weights([kernel, bias])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    operator = HessianOperator(model, loss, (x, (x @ kernel).argmax(axis=1)))
    v = np.random.default_rng(1).normal(size=27)
    z = x.astype("d") @ kernel + bias
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    moved = x.astype("d") @ v[:24].reshape(8, 3) + v[24:]
    across = p * moved - p * (p * moved).sum(1, keepdims=True)
    expected = np.r_[(x.T.astype("d") @ across).ravel(), across.sum(0)] / len(x)
    found = operator @ v
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_a_layer_whose_products_tensorflow_refuses(monkeypatch):
    # On some processors, some operations raise when they run.
    def refused(self, vector, batch):
        raise tf.errors.InvalidArgumentError(None, None, "no such kernel")

    monkeypatch.setattr(Averages, "on_batch", refused)
    message = r"(?s)can't compute products with .* by forward_over_reverse: no such kernel.*`mode`"
    with pytest.raises(SelfCheckError, match=message):
        HessianOperator(around(), "mse", series())


def test_policies_are_put_back():
    model = around(keras.layers.Dense(3, dtype="mixed_bfloat16"))
    HessianOperator(model, "mse", series())
    policies = [layer.dtype_policy.name for layer in model.layers]
    assert policies == ["float32", "mixed_bfloat16", "float32", "float32"]


class Cubic:
    """The mode and the objective of sum(a x^3) / 6, for which the product along v is a x v."""

    def __init__(self, factor):
        self.layout = VectorLayout([tf.zeros(5, tf.float64)])
        self.objective, self._factor = self, factor

    def keep(self, parameters, constants, x, y, weights):
        return [parameters[0]]

    def product(self, vector, parameters, constants, kept):
        return self._factor * kept[0] * vector

    def gradient(self, parameters, frozen, constants, batch):
        return parameters[0] ** 2 / 2


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (1.01, 0.01 / 1.01), (0.0, np.inf)])
def test_the_relative_error(factor, error):
    cubic = Cubic(factor)
    batch = (tf.zeros(()),) * 3
    start = [tf.constant([1.0, -2.0, 3.0, 0.5, 4.0], tf.float64)]
    found = self_check.compare(cubic, cubic.gradient, start, [], batch)
    assert found.precise
    assert found.decided == (error > 0)
    found = found.error
    if np.isinf(error):
        assert found > 1e3
    else:
        assert found == pytest.approx(error, rel=1e-3)
