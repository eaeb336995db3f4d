import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.objective import Objective
from thesis_tf._keras.tracing import traced_functions

OPTIMIZED_GRAPHS = True


class Plain(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4, "tanh")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


class Decorated(Plain):
    @tf.function
    def call(self, x):
        return self.dense(x)


class Compiled(Plain):
    @tf.function(jit_compile=True, autograph=False)
    def call(self, x):
        return self.dense(x)


class Signed(Plain):
    @tf.function(input_signature=[tf.TensorSpec((None, 5))])
    def call(self, x):
        return self.dense(x)


class Inside(Plain):
    @tf.function
    def encode(self, x, scale):
        return scale * self.dense(x)

    def call(self, x):
        return self.encode(x, np.float32(1.0))


class Partial(Plain):
    def build(self, shape):
        super().build(shape)
        self.function = tf.function(lambda scale, x: scale * self.dense(x))

    def call(self, x):
        return functools.partial(self.function, 1.0)(x)


class Nested(Inside):
    @tf.function
    def call(self, x):
        return self.encode(x, 1.0)


class Branching(Plain):
    @tf.function
    def call(self, x):
        h = self.dense(x)
        if tf.reduce_sum(h) > 1e9:  # AutoGraph makes a `tf.cond` of it
            h = 2.0 * h
        for _ in tf.range(2):
            h = 0.5 * h
        return 4.0 * h


class Mapped(Plain):
    @tf.function
    def call(self, x):
        return tf.vectorized_map(lambda row: self.dense(row[tf.newaxis])[0], x)


class Whole(keras.Model):
    """A model whose own call is decorated."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.last = layer, keras.layers.Dense(2)

    @tf.function
    def call(self, x):
        return self.last(self.layer(x))


FORMS = [Decorated, Compiled, Signed, Inside, Partial, Nested, Branching, Mapped, Whole]


def models(form):
    """Two models of the same weights: one of this form, and one without a `tf.function`."""
    keras.utils.set_random_seed(0)
    last = keras.layers.Dense(2)
    model = Whole(Plain()) if form is Whole else keras.Sequential([keras.Input((5,)), form(), last])
    plain = keras.Sequential([keras.Input((5,)), Plain(), keras.layers.Dense(2)])
    model(tf.zeros((1, 5)))
    plain.set_weights(model.get_weights())
    return model, plain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("called_before", [False, True])
def test_the_loss_is_a_function_of_other_weights(form, called_before):
    x, y = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")
    model, plain = models(form)
    if called_before:
        model(x)
        model.predict(x, verbose=0)
    before = model.predict(x, verbose=0)
    results = []
    for one in (model, plain):
        objective = Objective(one, "mse")
        parameters, constants = objective.read()

        def total(parameters, objective=objective, constants=constants):
            with tf.GradientTape() as tape:
                tape.watch(parameters)
                loss = objective.total(parameters, constants, x, y[:, :2], tf.ones(6))
            return loss, tape.gradient(loss, parameters)

        compiled = tf.function(total, autograph=False)
        moved = [1.5 * p + 0.25 for p in parameters]
        results.append([total(moved), compiled(parameters), compiled(moved)])
    for ours, theirs in zip(*map(tf.nest.flatten, results), strict=True):
        assert ours is not None
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    # The model's own functions keep no graph of another scope.
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    np.testing.assert_allclose(model(x), before, rtol=1e-5, atol=1e-6)


def test_a_function_that_keeps_its_weights_is_refused():
    class Concrete(Plain):
        def build(self, shape):
            super().build(shape)
            function = tf.function(lambda x: self.dense(x))
            self.function = function.get_concrete_function(tf.TensorSpec((None, 5)))

        def call(self, x):
            return self.function(x)

    model, _ = models(Concrete)
    objective = Objective(model, "mse")
    parameters, constants = objective.read()
    x = np.ones((3, 5), "float32")
    with pytest.raises(ValueError, match=r"reads .*dense.* has compiled before"):
        tf.function(objective.outputs, autograph=False)(parameters, constants, x)


def test_reads_of_what_the_scope_does_not_replace_are_allowed():
    scale = tf.Variable(2.0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Lambda(lambda x: scale * x)])
    model.add(keras.layers.Dense(2))
    objective = Objective(model, "mse")
    parameters, constants = objective.read()
    outputs = tf.function(objective.outputs, autograph=False)
    assert outputs(parameters, constants, np.ones((3, 5), "float32")).shape == (3, 2)


def test_what_only_xla_computes():
    # Keras compiles grouped convolutions, whose gradients TensorFlow doesn't have on CPUs.
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, groups=2), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((5, 5, 2)), *layers])
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 2)).astype("float32")
    objective = Objective(model, "mse")
    parameters, constants = objective.read()
    batch = x, np.zeros((3, 2), "float32"), tf.ones(3)

    @tf.function(autograph=False)
    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            total = objective.total(parameters, constants, *batch)
        return tape.gradient(total, parameters)

    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.reduce_mean(tf.square(model(x)), axis=1))
    expected = tape.gradient(total, variables)
    for found, value in zip(gradient(parameters), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)


def test_other_functions_keep_their_graphs():
    count = []

    @tf.function
    def function(x):
        count.append(1)
        return x

    function(tf.zeros(2))
    with traced_functions.inlined():
        function(tf.zeros(2))
        function(tf.zeros(2))
    assert len(count) == 3
    function(tf.zeros(2))
    assert len(count) == 3
