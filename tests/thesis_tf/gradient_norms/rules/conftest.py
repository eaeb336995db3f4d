"""Compares the gradients of each example by a layer's rule with automatic differentiation.

Losses are sums of a layer's outputs with random weights, so that all outputs count.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras import recording
from thesis_tf.gradient_norms.forms import combined
from thesis_tf.gradient_norms.recording import GradientRecorder, ReadingScope
from thesis_tf.gradient_norms.registry import rule_of

EXAMPLES = 3


def model_and_data(layer, shape, integers):
    rng = np.random.default_rng(0)
    x = rng.integers(0, integers, (EXAMPLES, *shape)) if integers else rng.normal(
        size=(EXAMPLES, *shape)
    )  # fmt: skip
    inputs = keras.Input(shape, dtype="int32" if integers else "float64")
    model = keras.Model(inputs, layer(inputs))
    for variable in model.variables:  # no variable stays at zero or one
        variable.assign(np.abs(variable) + rng.uniform(0.1, 0.5, variable.shape))
    x = tf.constant(x, inputs.dtype)
    return model, x, tf.constant(rng.normal(size=model(x).shape))


def by_rule(model, x, weights, training=False):
    """Returns {name of a variable: the form of its gradients} by the rules, from eager calls."""
    variables = model.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        recorder = GradientRecorder(tape, {id(variable) for variable in variables})
        with ReadingScope(recorder), recording.recording(recorder):
            outputs = model(x, training=training)
        total = tf.reduce_sum(outputs * weights)
    calls = [
        call
        for call in recorder.calls
        if isinstance(call.layer, keras.layers.Layer) and rule_of(call.layer)
    ]
    sources = {id(t): t for call in calls for t in call.sources()}
    found = tape.gradient(total, list(sources.values()), unconnected_gradients="zero")
    gradients = dict(zip(sources, found, strict=True))
    forms = {variable.path: [] for variable in variables}
    for call in calls:
        call.gradients = gradients
        for variable, form in rule_of(call.layer).gradients(call):
            forms[variable.path].append(form)
    return {path: combined(parts) for path, parts in forms.items()}


def by_jacobian(model, x, weights):
    """Returns {name of a variable: (examples, *shape)} by `tf.GradientTape.jacobian`."""
    with tf.GradientTape(persistent=True) as tape:
        products = tf.reshape(model(x) * weights, [EXAMPLES, -1])
        losses = tf.reduce_sum(products, axis=1)
    variables = model.trainable_variables
    found = tape.jacobian(losses, [v.value for v in variables], experimental_use_pfor=False)
    return {v.path: tf.convert_to_tensor(j) for v, j in zip(variables, found, strict=True)}


@pytest.fixture
def double():
    """Sets the dtype policy float64."""
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)


@pytest.fixture
def call_rule(double):
    """Returns a function that calls a new layer's rule: (make, shape) -> {path: form}."""

    def call(make, shape, training=False):
        return by_rule(*model_and_data(make(), shape, None), training)

    return call


@pytest.fixture
def check_rule(double):
    """Returns a function that compares a new layer's rule with Jacobians.

    Its arguments are the function that creates the layer, the shape of an example and, for layers
    that take integers, their number. It returns {path: form}.
    """

    def check(make, shape, integers=None):
        model, x, weights = model_and_data(make(), shape, integers)
        forms, expected = by_rule(model, x, weights), by_jacobian(model, x, weights)
        assert forms
        assert forms.keys() == expected.keys()
        for path, jacobian in expected.items():
            wanted, form = jacobian.numpy(), forms[path]
            flat = wanted.reshape(EXAMPLES, -1)
            scale = abs(flat).max()
            assert scale > 0, path
            np.testing.assert_allclose(form.dense(), wanted, atol=1e-12 * scale, err_msg=path)
            np.testing.assert_allclose(form.squared_norm(), (flat**2).sum(1), rtol=1e-11)
            direction = np.random.default_rng(1).normal(size=wanted.shape[1:])
            products = flat @ direction.ravel()
            inner = form.inner(tf.constant(direction))
            np.testing.assert_allclose(inner, products, atol=1e-11 * scale * flat.shape[1])
        return forms

    return check
