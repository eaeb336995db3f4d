import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gradient_norms, probes

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("layer_cases", HERE / "layer_cases.py")
layer_cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layer_cases)

L = keras.layers


def mse(y, outputs):
    return tf.reduce_mean(tf.square(tf.cast(y, outputs.dtype) - outputs), axis=-1)


def small_model(*layers, shape=(6, 6, 2)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(3)])


def data(shape=(6, 6, 2), examples=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, *shape)).astype("f"), np.arange(examples) % 3


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# In float32 each kind of layer once, in its first form.
FIRST_FORMS = {name.partition(",")[0]: name for name in reversed(layer_cases.CASES)}.values()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float64") for name in layer_cases.CASES] + [(name, "float32") for name in FIRST_FORMS],
)
def test_norms_are_those_of_jacobians(name, dtype):
    model, (x, y) = layer_cases.build(name, dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    wanted = np.stack(layer_cases.jacobian_squares(model, x, y))
    f = gradient_norms.per_example_gradient_norms(model, mse, check=False)
    found = np.stack(f._variable_squares(tf.constant(x), tf.constant(y)))
    # Some gradients are 0 up to rounding, such as those of the keys' biases in attention.
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert (abs(found - wanted) <= tolerance * wanted.sum(0)).all()
    losses, squares = f(x, y)
    assert losses.shape == squares.shape == (5,)
    np.testing.assert_allclose(squares, wanted.sum(0), rtol=10 * tolerance)


@pytest.mark.slow
def test_every_registered_layer_has_a_case():
    seen = set()
    for name in layer_cases.CASES:
        model, _ = layer_cases.build(name)
        for layer in model._flatten_layers():
            seen |= {type(layer), type(getattr(layer, "cell", None))}
    # Other tests may have registered additional layers.
    kinds = {kind for kind in gradient_norms.registered_kinds() if kind.__module__[:6] == "keras."}
    missing = {kind.__name__ for kind in kinds - seen}
    assert kinds
    assert not missing, "add a model that has these to CASES in layer_cases.py"


def test_losses_and_layers():
    model = small_model(L.Conv2D(3, 3, kernel_regularizer="l2", activation="relu"))
    x, y = data()
    f = gradient_norms.per_example_gradient_norms(model, LOSS, per_layer=True)
    losses, squares, layers = f(x, y)
    penalty = float(model.losses[0])
    each = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
    np.testing.assert_allclose(losses, each + penalty, rtol=1e-5)
    assert tuple(layers) == f.layers
    assert [name.rstrip("_0123456789") for name in layers] == ["conv2d", "dense"]
    np.testing.assert_allclose(sum(layers.values()), squares, rtol=1e-6)
    without = gradient_norms.per_example_gradient_norms(model, LOSS, regularization=False)
    np.testing.assert_allclose(without(x, y)[0], each, rtol=1e-5)
    assert (abs(without(x, y)[1] - squares).numpy() > 1e-4).any()


def layer_squares(model, x, y, layer):
    """Returns the squared norms of each example's gradient for a layer, by tapes."""
    squares = []
    for i in range(len(y)):
        one = keras.tree.map_structure(lambda values: values[i : i + 1], x)  # noqa: B023
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mse(y[i : i + 1], model(one)))
        gradients = tape.gradient(loss, [v.value for v in layer.trainable_variables])
        squares.append(sum(float(tf.reduce_sum(tf.square(g))) for g in gradients))
    return squares


def test_layers_of_one_name_in_two_models_are_apart():
    keras.utils.set_random_seed(0)

    def tower(name):
        x = keras.Input((4,))
        return keras.Model(x, L.Dense(3, name="dense")(x), name=name)

    x = keras.Input((4,))
    enc, dec = tower("enc"), tower("dec")
    assert enc.layers[1].kernel.path == dec.layers[1].kernel.path
    model = keras.Model(x, L.Add()([enc(x), 2 * dec(x)]))
    inputs, labels = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("f")
    f = gradient_norms.per_example_gradient_norms(model, mse, per_layer=True)
    assert set(f.layers) == {"enc/dense", "dec/dense"}
    _, squares, layers = f(inputs, labels[:, :3])
    assert list(layers) == [tap.name for tap in probes.taps(model, L.Dense)]
    np.testing.assert_allclose(sum(layers.values()), squares, rtol=1e-6)
    for tower in (enc, dec):
        expected = layer_squares(model, inputs, labels[:, :3], tower.layers[1])
        np.testing.assert_allclose(layers[f"{tower.name}/dense"], expected, rtol=1e-5)


class TwoInputs(keras.Model):
    """A subclassed model of two inputs."""

    def __init__(self):
        super().__init__(name="two")
        self.left, self.right = L.Dense(3, "tanh", name="left"), L.Dense(3, name="right")

    def call(self, inputs):
        return self.left(inputs["a"]) * self.right(inputs["b"])


def test_a_model_that_is_not_built_needs_inputs():
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(5, 4)).astype("f"), "b": rng.normal(size=(5, 2)).astype("f")}
    y = rng.normal(size=(5, 3)).astype("f")
    with pytest.raises(ValueError, match=r"`model` must be built.*two.*inputs=x\[:1\]"):
        gradient_norms.per_example_gradient_norms(TwoInputs(), mse)
    model = TwoInputs()
    f = gradient_norms.per_example_gradient_norms(model, mse, per_layer=True, inputs=x)
    assert f.layers == ("left", "right")
    _, _, layers = f(x, y)
    for name in f.layers:
        expected = layer_squares(model, x, y, getattr(model, name))
        np.testing.assert_allclose(layers[name], expected, rtol=1e-5)
    # A built model's layers are known from a batch.
    again = gradient_norms.per_example_gradient_norms(model, mse, per_layer=True)
    with pytest.raises(ValueError, match="inputs of model 'two' is unknown"):
        again.layers  # noqa: B018
    again(x, y)
    assert again.layers == f.layers


def test_batches_of_any_size_are_cut_to_fit_the_cache(monkeypatch):
    model = small_model(L.Conv2D(4, 3, activation="relu"))
    x, y = data(examples=23)
    whole = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)
    monkeypatch.setattr(gradient_norms.api, "CACHE", 4 * 4 * 4 * 4 * 5)
    monkeypatch.setattr(gradient_norms.api, "SMALLEST_CHUNK", 1)
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    for size in (23, 1, 5, 6):
        losses, squares = f(x[:size], y[:size])
        np.testing.assert_allclose(losses, whole[0][:size], rtol=1e-5)
        np.testing.assert_allclose(squares, whole[1][:size], rtol=1e-5)


def test_only_some_parameters():
    model = small_model(L.Conv2D(3, 3, name="conv"), L.BatchNormalization())
    x, y = data()
    _, squares, layers = gradient_norms.per_example_gradient_norms(model, LOSS, per_layer=True)(
        x, y
    )
    only = gradient_norms.per_example_gradient_norms(model, LOSS, parameters="conv")
    np.testing.assert_allclose(only(x, y)[1], layers["conv"], rtol=1e-6)
    model.get_layer("conv").trainable = False
    frozen = gradient_norms.per_example_gradient_norms(model, LOSS)
    np.testing.assert_allclose(frozen(x, y)[1], squares - layers["conv"], rtol=1e-5)


def test_with_gradients_gives_both_from_one_pass():
    model = small_model(L.Conv2D(3, 3, kernel_regularizer="l2"), L.ReLU())
    x, y = data()
    scales = np.array([0.5, 1, 2, 4, 0.1], "f")
    f = gradient_norms.per_example_gradient_norms(model, LOSS, regularization=False)
    losses, squares, gradients = f.with_gradients(x, y, scales)
    np.testing.assert_allclose(squares, f(x, y)[1], rtol=1e-5)
    with tf.GradientTape() as tape:
        each = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        total = tf.reduce_mean(each * scales)
    np.testing.assert_allclose(losses, each, rtol=1e-5)
    for found, wanted in zip(
        gradients, tape.gradient(total, model.trainable_variables), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)


def test_training_mode_measures_what_dropout_left():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(1, use_bias=False)(L.Dropout(0.5)(inputs)))
    f = gradient_norms.per_example_gradient_norms(model, mse, training=True)
    x, y = np.ones((200, 4), "f"), np.ones((200, 1), "f")
    losses, squares = f(x, y)
    # The gradient is 2 (output - 1) x; dropout keeps some of its elements, and doubles them.
    parts = squares / (4 * np.maximum(losses, 1e-12))
    counts = np.unique(np.round(parts[losses > 1e-6], 3))
    assert set(counts) <= {0, 4, 8, 12, 16}
    assert len(counts) > 2
    assert not np.array_equal(f(x, y)[1], squares), "the same units were dropped out again"


def test_batch_normalization_in_training_mode_is_refused():
    model = small_model(L.Conv2D(3, 3), L.BatchNormalization(name="norm"))
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=True)
    with pytest.raises(ValueError, match="norm is a batch normalization in training mode"):
        f(*data())
    model.get_layer("norm").trainable = False
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=True)
    f(*data())


def test_batch_normalization_in_training_mode_is_refused_for_other_parameters():
    model = small_model(L.Conv2D(3, 3), L.BatchNormalization(name="norm"), L.Conv2D(2, 3, name="c"))
    f = gradient_norms.per_example_gradient_norms(model, LOSS, parameters="c", training=True)
    with pytest.raises(ValueError, match="norm is a batch normalization in training mode"):
        f(*data())


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "bool", "float32"])
def test_labels_of_any_dtype(dtype):
    model, (x, y) = small_model(), data()
    expected = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y % 2)
    found = gradient_norms.per_example_gradient_norms(model, LOSS)(x, (y % 2).astype(dtype))
    np.testing.assert_array_equal(found[1], expected[1])


def test_where_functions_run_eagerly():
    model, (x, y) = small_model(L.Conv2D(2, 3)), data()
    expected = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)
    tf.config.run_functions_eagerly(True)
    try:
        found = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


def test_recurrent_dropout_in_training_mode_is_refused():
    model = small_model(L.Reshape((6, 12)), L.LSTM(3, dropout=0.5))
    f = gradient_norms.per_example_gradient_norms(model, LOSS, training=True)
    with pytest.raises(ValueError, match="applies dropout inside the cell"):
        f(*data())


@pytest.mark.slow
def test_sequences_of_unknown_length_are_refused():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, L.Dense(3)(L.GRU(2, name="steps")(inputs)))
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    specs = tf.TensorSpec((None, None, 4)), tf.TensorSpec((None,), tf.int64)
    with pytest.raises(ValueError, match="The input of steps must be of a known number"):
        tf.function(f, input_signature=specs).get_concrete_function()
    f(*data((7, 4)))  # the first call runs the self-check


@pytest.mark.slow
def test_images_of_unknown_size():
    inputs = keras.Input((None, None, 2))
    x = L.Conv2D(3, 3, padding="same", strides=2)(inputs)
    x = L.GlobalAveragePooling2D()(L.Conv2DTranspose(4, 3)(L.SeparableConv2D(20, 2)(x)))
    model = keras.Model(inputs, L.Dense(3)(x))
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    for side in (8, 9):
        f(*data((side, side, 2)))  # the first call runs the self-check
    specs = tf.TensorSpec((None, None, None, 2)), tf.TensorSpec((None,), tf.int64)
    any_size = tf.function(f, input_signature=specs, autograph=False)
    x, y = data((9, 9, 2))
    np.testing.assert_allclose(any_size(x, y)[1], f(x, y)[1], rtol=1e-5)


def test_mixed_precision_sums_in_float32():
    keras.utils.set_random_seed(0)  # before the layers draw the seeds of their initializers
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(L.Conv2D(8, 3, activation="relu"), L.LayerNormalization())
    finally:
        keras.config.set_dtype_policy(before)
    x, y = data()
    losses, squares = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)
    full = small_model(L.Conv2D(8, 3, activation="relu"), L.LayerNormalization())
    full.set_weights(model.get_weights())
    wanted = gradient_norms.per_example_gradient_norms(full, LOSS)(x, y)
    # bfloat16 has 8 bits; gradients and activations are rounded several times.
    np.testing.assert_allclose(squares, wanted[1], rtol=8 * 2**-8)
    assert squares.dtype == losses.dtype


def test_several_inputs_and_structures():
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    model = keras.Model({"a": a, "b": b}, L.Dense(2)(L.Concatenate()([a, L.Dense(3)(b)])))
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=(4, 4))}
    losses, squares = gradient_norms.per_example_gradient_norms(model, mse)(
        x, rng.normal(size=(4, 2))
    )
    assert squares.shape == (4,)
    assert (squares.numpy() > 0).all()
    assert np.isfinite(losses).all()


def test_a_subclassed_model_that_reads_a_weight_itself():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(4, "tanh")
            self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

        def call(self, x):
            return self.dense(x) * self.scale

    model = Mine()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("f")
    model(x)
    gradient_norms.per_example_gradient_norms(model, mse)(x, np.zeros((5, 4), "f"))  # self-check


def test_examples_that_depend_on_one_another_are_found():
    class Centered(L.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, x):
            return (x - keras.ops.mean(x, axis=0, keepdims=True)) * self.w

    model = small_model(Centered(), L.Conv2D(2, 3))
    with pytest.raises(ValueError, match="depends on other examples of its batch"):
        gradient_norms.per_example_gradient_norms(model, LOSS)(*data())
    gradient_norms.per_example_gradient_norms(model, LOSS, check=False)(*data())


def test_losses_that_are_added_are_refused():
    model = small_model(L.Dense(3, activity_regularizer="l2"))
    with pytest.raises(ValueError, match="adds losses"):
        gradient_norms.per_example_gradient_norms(model, LOSS)(*data())


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        gradient_norms.per_example_gradient_norms(lambda x: x, LOSS)
    model = small_model()
    with pytest.raises(ValueError, match="must be layers or trainable variables"):
        gradient_norms.per_example_gradient_norms(model, LOSS, parameters="densest")
    with pytest.raises(ValueError, match="one value per example"):
        gradient_norms.per_example_gradient_norms(model, lambda y, o: tf.reduce_mean(o))(*data())
    f, (x, y) = gradient_norms.per_example_gradient_norms(model, LOSS), data()
    with pytest.raises(TypeError, match=r"`y` must be numbers. Received: strings. Map names"):
        f(x, np.array(["cat"] * len(x)))
    with pytest.raises(ValueError, match="equal first axes"):
        f(x, y[:-1])
    with pytest.raises(ValueError, match="equal first axes"):
        f.with_gradients(x, y, np.ones(len(x) + 1, np.float32))
    with pytest.raises(ValueError, match="of at least one example"):
        f(x[:0], y[:0])
    inputs = keras.Input((3,))
    two = keras.Model(inputs, [L.Dense(3)(inputs), L.Dense(3)(inputs)])
    with pytest.raises(ValueError, match="The labels must be a list or dict of one"):
        gradient_norms.per_example_gradient_norms(two, LOSS)(np.ones((5, 3), "f"), y)
    with pytest.raises(ValueError, match=r"`scales` must be of shape \(batch,\)"):
        f.with_gradients(x, y, 1.0)


def test_lists_of_numbers():
    f, (x, y) = gradient_norms.per_example_gradient_norms(small_model(shape=(2,)), LOSS), data((2,))
    for found, expected in zip(f(x.tolist(), y.tolist()), f(x, y), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_on_two_devices(two_devices):
    strategy = tf.distribute.MirroredStrategy(two_devices)
    with strategy.scope():
        model = small_model(L.Conv2D(3, 3, activation="relu"))
    x, y = data(examples=6)
    f = gradient_norms.per_example_gradient_norms(model, LOSS)
    wanted = f(x, y)[1]

    @tf.function
    def on_replica():
        first = 3 * tf.distribute.get_replica_context().replica_id_in_sync_group
        return f(tf.constant(x)[first : first + 3], tf.constant(y)[first : first + 3])[1]

    parts = strategy.experimental_local_results(strategy.run(on_replica))
    np.testing.assert_allclose(np.concatenate(parts), wanted, rtol=1e-5)


def test_compiled_by_xla():
    model = small_model(L.Dense(4, "tanh"))
    x, y = data()
    plain = gradient_norms.per_example_gradient_norms(model, LOSS)(x, y)
    compiled = gradient_norms.per_example_gradient_norms(model, LOSS, jit_compile=True)(x, y)
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-5)


def test_nothing_stays_changed():
    model = small_model(L.Reshape((6, 12)), L.LSTM(3), shape=(6, 6, 2))
    lstm = model.layers[1]
    activation, unroll = lstm.cell.activation, lstm.unroll
    gradient_norms.per_example_gradient_norms(model, LOSS)(*data())
    assert lstm.cell.activation is activation
    assert lstm.unroll is unroll
    before = keras.Operation.__call__
    assert before.__name__ == "__call__"


@pytest.mark.parametrize("call", ["norms", "with_outputs", "with_gradients", "per_layer"])
@pytest.mark.parametrize("trainable", [True, False])
def test_parameters_that_are_frozen_or_trainable_later_are_not_passed_over(call, trainable):
    model = small_model(L.Dense(3, name="first"), shape=(4,))
    first, (x, y) = model.get_layer("first"), data((4,))
    first.trainable = trainable
    f, chosen = (
        gradient_norms.per_example_gradient_norms(
            model, LOSS, parameters=parameters, per_layer=call == "per_layer"
        )
        for parameters in (None, model.trainable_variables)
    )

    def measured(f):
        if call == "with_gradients":
            return f.with_gradients(x, y, np.ones(5, "f"))[1]
        return f.with_outputs(x, y)[1] if call == "with_outputs" else f(x, y)[1]

    before = measured(f)
    first.trainable = not trainable
    with pytest.raises(ValueError, match=r"were trainable when .* Make the function again"):
        measured(f)
    if trainable:  # frozen since: what no longer is trainable isn't recorded
        with pytest.raises(ValueError, match="2 of them frozen since, and 0 others"):
            measured(chosen)
    else:
        np.testing.assert_allclose(measured(chosen), before, rtol=1e-6)
    first.trainable = trainable
    np.testing.assert_array_equal(measured(f), before)
