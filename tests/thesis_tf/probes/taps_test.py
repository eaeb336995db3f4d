import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf.probes.taps import Tap, forward, record_taps, taps

RNG = np.random.default_rng(0)
# Keras' warning for a model with a layer that is never called, such as `Residual`.
pytestmark = pytest.mark.filterwarnings("ignore:`build..` was called on layer 'residual'")


def names(model, select="*", inputs=None):
    return [tap.name for tap in taps(model, select, inputs=inputs)]


def shapes(model, **kwargs):
    return {tap.name: tap.shape for tap in taps(model, **kwargs)}


def activations(model, x, at):
    """Returns the outputs of `forward` as NumPy arrays."""
    run = tf.function(forward(model, at), autograph=False)
    _, values = run(keras.tree.map_structure(tf.convert_to_tensor, x))
    return {name: tf.cast(value, tf.float64).numpy() for name, value in values.items()}


def batch(*shape):
    return RNG.normal(size=shape).astype(np.float32)


class Residual(keras.Model):
    """A subclassed model with a TensorFlow operation and a layer that is never called."""

    def __init__(self):
        super().__init__(name="residual")
        self.first = layers.Dense(4, name="first")
        self.second = layers.Dense(4, name="second")
        self.spare = layers.Dense(9, name="spare")

    def call(self, x):
        return x + self.second(tf.nn.relu(self.first(x)))


@pytest.fixture
def functional():
    x = keras.Input((6, 6, 2), name="image")
    h = layers.Conv2D(3, 3, name="conv")(x)
    h = layers.BatchNormalization(name="bn")(h)
    h = keras.ops.relu(h)
    h = layers.Dropout(0.5, name="drop")(h)
    side = layers.Conv2D(3, 1, name="side")(h)
    h = layers.Add(name="add")([h, side])
    h = layers.GlobalAveragePooling2D(name="pool")(h)
    model = keras.Model(x, layers.Dense(5, name="logits")(h))
    model.get_layer("bn").set_weights([batch(3), batch(3), batch(3), abs(batch(3)) + 0.5])
    return model


def test_functional_model(functional):
    *found, relu, side, add, pool, logits = taps(functional)

    assert found == [
        Tap("input", (None, 6, 6, 2), "float32", "Model"),
        Tap("conv", (None, 4, 4, 3), "float32", "Conv2D"),
        Tap("bn", (None, 4, 4, 3), "float32", "BatchNormalization"),
    ]
    assert relu.kind == "Relu"  # a keras.ops node, which Keras numbers
    assert (side.name, add.name, pool.name) == ("side", "add", "pool")
    assert logits == Tap("logits", (None, 5), "float32", "Dense")


def test_activations_of_a_functional_model_are_those_of_its_layers(functional):
    x = batch(7, 6, 6, 2)
    at = ["conv", "bn", "drop", "side", "add", "pool", "logits"]
    truth = keras.Model(functional.input, [functional.get_layer(name).output for name in at])

    values = activations(functional, x, ["input", *at, "output"])

    np.testing.assert_array_equal(values["input"], x)
    for name, expected in zip(at, truth(x, training=False), strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(values["output"], values["logits"])


def test_the_outputs_of_forward_are_the_model_s(functional):
    x = tf.constant(batch(3, 6, 6, 2))

    outputs, _ = tf.function(forward(functional, []), autograph=False)(x)

    np.testing.assert_allclose(outputs, functional(x, training=False), rtol=1e-5, atol=1e-6)


def test_sequential_model_built_by_its_input():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    )

    assert shapes(model) == {"input": (None, 5), "a": (None, 3), "b": (None, 2)}


def test_sequential_model_that_is_not_built_needs_inputs():
    model = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="mlp")
    with pytest.raises(ValueError, match=r"inputs of model 'mlp' is unknown.*inputs=x\[:1\]"):
        taps(model)

    expected = {"input": (None, 5), "a": (None, 3), "b": (None, 2)}
    assert shapes(model, inputs=batch(4, 5)) == expected
    # The model is built now, for any number of examples.
    assert shapes(model) == expected
    assert model.inputs[0].shape == (None, 5)


def test_the_batch_that_a_sequential_model_was_first_called_on_is_not_its_size():
    model = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    model(batch(4, 5))

    assert shapes(model)["a"] == (None, 3)


def test_inputs_may_be_specs():
    model = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")])

    assert shapes(model, inputs=tf.TensorSpec((None, 5)))["b"] == (None, 2)


def test_nested_models():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="x"), layers.Dropout(0.5, name="drop")],
        name="inner",
    )
    z = keras.Input((4,))
    outer = keras.Model(z, layers.Dense(2, name="y")(inner(z)), name="outer")
    z = keras.Input((4,))
    model = keras.Model(z, layers.Dense(5, name="z")(outer(z)))
    data = batch(3, 4)

    assert names(model) == ["input", "outer/inner/x", "outer/y", "z"]
    # A tensor counts once, unless each of its names is requested.
    aliases = ["outer/inner", "outer/inner/drop", "outer/inner/x", "outer", "outer/y"]
    assert set(names(model, aliases)) == set(aliases)
    assert names(model, "outer*") == ["outer/inner/x", "outer/y"]
    assert names(model, ["outer", "outer*"]) == ["outer/inner/x", "outer"]

    values = activations(model, data, ["outer/inner/x", "outer", "z"])
    np.testing.assert_allclose(values["outer/inner/x"], inner(data), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["outer"], outer(data), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["z"], model(data), rtol=1e-5, atol=1e-6)


def test_nested_model_that_is_called_twice():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="tower"
    )
    left, right = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([left, right], layers.Concatenate(name="both")([inner(left), inner(right)]))
    one, two = batch(3, 4), batch(3, 4)

    assert names(model, "tower*") == ["tower/a", "tower/b", "tower/a#2", "tower/b#2"]
    values = activations(model, [one, two], ["tower/b", "tower#2", "tower/a#2", "input/1"])
    np.testing.assert_allclose(values["tower/b"], inner(one), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["tower#2"], inner(two), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["tower/a#2"], inner.layers[0](two), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values["input/1"], two)


def test_shared_layer():
    x = keras.Input((4,))
    dense = layers.Dense(4, name="dense")
    model = keras.Model(x, layers.Add(name="add")([dense(dense(x)), x]))
    data = batch(3, 4)

    assert names(model) == ["input", "dense", "dense#2", "add"]
    values = activations(model, data, ["dense", "dense#2"])
    np.testing.assert_allclose(values["dense"], dense(data), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["dense#2"], dense(dense(data)), rtol=1e-5, atol=1e-6)


def test_subclassed_model():
    model, data = Residual(), batch(3, 4)
    with pytest.raises(ValueError, match="inputs of model 'residual' is unknown"):
        taps(model)

    assert names(model, inputs=data) == ["input", "first", "second", "output"]
    assert names(model) == ["input", "first", "second", "output"]
    values = activations(model, data, ["first", "second", "output"])
    first = model.first(data).numpy()
    second = model.second(np.maximum(first, 0)).numpy()
    np.testing.assert_allclose(values["first"], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["second"], second, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["output"], data + second, rtol=1e-5, atol=1e-6)


def test_a_model_is_run_as_by_calling_it():
    class Raw(keras.Model):
        def __init__(self):
            super().__init__(dtype="mixed_bfloat16")
            self.kernel = self.add_weight(shape=(4, 4), name="kernel")

        def call(self, x):
            # Keras casts inputs and the kernel around `call`, not in it.
            return tf.matmul(x, self.kernel)

    model, data = Raw(), batch(5, 4)
    expected = model(data, training=False)
    (tap,) = taps(model, "output")

    assert tap.dtype == expected.dtype == "bfloat16"
    values = activations(model, data, ["output"])["output"]
    np.testing.assert_array_equal(values, tf.cast(expected, tf.float64))


@pytest.fixture
def recurrent():
    x = keras.Input((6, 3))
    sequence, state, memory = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(
        x
    )
    h = layers.Bidirectional(layers.GRU(2, return_sequences=True, name="gru"), name="bi")(sequence)
    h = layers.TimeDistributed(layers.Dense(3, name="step"), name="each")(h)
    return keras.Model(x, [h, state, memory])


def test_recurrent_model(recurrent):
    data = batch(5, 6, 3)

    assert shapes(recurrent) == {
        "input": (None, 6, 3),
        "lstm:0": (None, 6, 4),
        "lstm:1": (None, 4),
        "lstm:2": (None, 4),
        "bi/forward_gru": (None, 6, 2),
        "bi/backward_gru": (None, 6, 2),
        "bi": (None, 6, 4),
        "each": (None, 6, 3),
    }
    at = ["lstm:0", "lstm:1", "lstm:2", "bi", "bi/forward_gru", "each"]
    values = activations(recurrent, data, at)
    sequence, state, memory = recurrent.get_layer("lstm")(data)
    both = recurrent.get_layer("bi")(sequence)
    truth = [sequence, state, memory, both, both[:, :, :2], recurrent.get_layer("each")(both)]
    for name, expected in zip(at, truth, strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "select", ["lstm/lstm_cell*", "bi/forward_gru/gru_cell*", "class:LSTMCell", layers.GRUCell]
)
def test_cells_are_out_of_reach_and_the_error_says_so(recurrent, select):
    with pytest.raises(ValueError, match=r"called inside a loop.*recurrent layer around it"):
        taps(recurrent, select)


def test_a_layer_that_another_runs_in_its_own_way_is_out_of_reach(recurrent):
    with pytest.raises(ValueError, match=r"'each/step'.*TimeDistributed"):
        taps(recurrent, "each/step")


def test_cells_of_a_stack_are_out_of_reach_too():
    # Keras also calls these cells outside their loop, on the first step, to draw dropout masks.
    cells = [layers.LSTMCell(3, name="low"), layers.GRUCell(2, name="high")]
    model = keras.Sequential([keras.Input((6, 3)), layers.RNN(cells, name="rnn")])

    assert names(model) == ["input", "rnn"]
    with pytest.raises(ValueError, match="called inside a loop"):
        taps(model, "rnn/*low")


def test_cells_of_an_unrolled_layer_are_in_reach():
    model = keras.Sequential([keras.Input((3, 2)), layers.GRU(4, unroll=True, name="gru")])
    data = batch(5, 3, 2)

    steps = names(model, "class:GRUCell")

    assert len(steps) == 3
    values = activations(model, data, [*steps, "gru"])
    state = np.zeros((5, 4), np.float32)
    for step, name in enumerate(steps):
        state, _ = model.layers[0].cell(data[:, step], state)
        np.testing.assert_allclose(values[name], state, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["gru"], state, rtol=1e-5, atol=1e-6)


def test_dict_of_inputs_and_of_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    sum_ = layers.Dense(2, name="sum")(layers.Concatenate(name="join")([a, b]))
    model = keras.Model({"a": a, "b": b}, {"s": sum_, "t": layers.Dense(4, name="top")(a)})
    data = {"a": batch(3, 3), "b": batch(3, 2)}

    assert set(names(model)) == {"input/a", "input/b", "join", "sum", "top"}
    assert [tap.name for tap in record_taps(model).outputs] == ["output/s", "output/t"]
    values = activations(model, data, ["input/b", "join", "output/s", "output/t"])
    np.testing.assert_array_equal(values["input/b"], data["b"])
    np.testing.assert_array_equal(values["join"], np.concatenate([data["a"], data["b"]], 1))
    truth = model(data)
    np.testing.assert_allclose(values["output/s"], truth["s"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["output/t"], truth["t"], rtol=1e-5, atol=1e-6)


def test_subclassed_model_of_a_dict():
    class Join(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, name="dense")

        def call(self, inputs):
            return self.dense(keras.ops.concatenate([inputs["a"], inputs["b"]], 1))

    model, data = Join(), {"a": batch(3, 3), "b": batch(3, 2)}

    assert names(model, inputs=data) == ["input/a", "input/b", "dense"]
    with pytest.raises(ValueError, match="is unknown"):
        taps(model)


def test_model_of_a_fixed_batch_size():
    x = keras.Input(batch_shape=(4, 6, 3))
    model = keras.Model(x, layers.Dense(2, name="top")(layers.LSTM(5, stateful=True, name="l")(x)))
    data = batch(4, 6, 3)

    assert shapes(model) == {"input": (4, 6, 3), "l": (4, 5), "top": (4, 2)}
    expected = model.get_layer("l")(data)
    model.get_layer("l").reset_state()
    np.testing.assert_allclose(activations(model, data, ["l"])["l"], expected, rtol=1e-5, atol=1e-6)
    assert not np.any(model.get_layer("l").states[0])  # the state was not passed on


def test_unknown_sizes_stay_unknown():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.Conv2D(2, 3, name="conv")(x))

    assert shapes(model)["conv"] == (None, None, None, 2)
    assert shapes(model, inputs=batch(1, 9, 8, 3))["conv"] == (None, 7, 6, 2)


def test_masks_are_not_taps():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 4, mask_zero=True, name="embedding"),
            layers.LSTM(3, name="lstm"),
        ]
    )

    assert names(model) == ["input", "embedding", "lstm"]


def test_tensors_without_examples_are_not_taps():
    class Position(layers.Layer):
        def __init__(self):
            super().__init__(name="position")
            self.scale = layers.Rescaling(2.0, name="scale")

        def build(self, shape):
            self.table = self.add_weight(shape=(1, *shape[1:]), name="table")

        def call(self, x):
            return x + self.scale(self.table)

    x = keras.Input((3,))
    h = Position()(x)
    model = keras.Model(x, [h, keras.ops.transpose(h)])

    assert names(model) == ["input", "position"]


@pytest.mark.parametrize(
    ("policy", "inside", "atol"),
    # Inputs, the kernel and the result are rounded to bfloat16, by at most 2^-8.
    [("mixed_bfloat16", "bfloat16", 0.05), ("float64", "float64", 1e-12)],
)
def test_dtypes(policy, inside, atol):
    x = keras.Input((6, 6, 2), dtype="float32")
    h = layers.Conv2D(3, 3, dtype=policy, name="conv", kernel_initializer="ones")(x)
    h = layers.ReLU(dtype=policy, name="relu")(h)
    model = keras.Model(x, layers.GlobalMaxPooling2D(dtype="float32", name="top")(h))
    data = RNG.uniform(-1, 1, (3, 6, 6, 2)).astype(np.float32) / 8

    dtypes = {tap.name: tap.dtype for tap in taps(model)}
    assert dtypes == {"input": "float32", "conv": inside, "relu": inside, "top": "float32"}
    windows = np.lib.stride_tricks.sliding_window_view(data.astype(np.float64), (3, 3), (1, 2))
    expected = windows.sum((3, 4, 5))
    values = activations(model, data, ["conv", "relu"])
    for channel in range(3):
        np.testing.assert_allclose(values["conv"][..., channel], expected, atol=atol)
    np.testing.assert_array_equal(values["relu"], np.maximum(values["conv"], 0))


@pytest.mark.slow
def test_select(functional):
    relu = names(functional, "class:Relu")

    assert names(functional, "conv") == ["conv"]
    assert names(functional, "*o*n*") == ["conv"]
    assert names(functional, "class:Conv*") == ["conv", "side"]
    assert names(functional, layers.Conv2D) == ["conv", "side"]
    assert names(functional, lambda tap: len(tap.shape) == 2) == ["pool", "logits"]
    assert names(functional, ["logits", "class:Conv2D", "input"]) == [
        "input", "conv", "side", "logits",
    ]  # fmt: skip
    assert names(functional, taps(functional, ["pool", "add"])) == ["add", "pool"]
    assert names(functional, layers.Layer) == [
        "conv", "bn", "drop", "side", "add", "pool", "logits",
    ]  # fmt: skip
    # At inference, dropout returns its input: alone it is found, with its input it counts once.
    assert names(functional, "class:Dropout") == ["drop"]
    assert names(functional, ["class:Relu", "class:Dropout"]) == relu
    assert names(functional, [*relu, "drop"]) == [*relu, "drop"]


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("poool", r"matches 'poool'\. The nearest are: pool"),
        ("conv2d", r"The nearest are: conv"),
        ("class:conv2d", r"The nearest are: Conv2D"),
        (layers.LSTM, r"matches 'LSTM'"),
        (lambda tap: False, r"matches '<lambda>'"),
        (["conv", "nothing_like_it"], r"matches 'nothing_like_it'"),
    ],
)
def test_nothing_matches(functional, select, message):
    with pytest.raises(ValueError, match=message) as error:
        taps(functional, select)
    assert "subclassed" not in str(error.value)


def test_the_end_of_a_name():
    inner = keras.Sequential([layers.Dense(2, name="a"), layers.ReLU(name="b")], name="inner")
    outer = keras.Sequential([keras.Input((3,)), inner, layers.Dense(2, name="b")], name="outer")
    assert names(outer, "a") == ["inner/a"]
    assert names(outer, "b") == ["b"]  # a full name has priority
    twice = keras.Sequential(
        [keras.Input((3,)), inner, keras.Sequential([layers.Dense(2, name="a")], name="other")]
    )
    with pytest.raises(ValueError, match=r"fits one place.*It fits inner/a, other/a") as error:
        taps(twice, "a")
    assert error.value.argument == "taps"


def test_nothing_matches_in_a_subclassed_model():
    with pytest.raises(ValueError, match=r"Inside a subclassed `call`.*make the step a layer"):
        taps(Residual(), "relu", inputs=batch(1, 4))
    with pytest.raises(ValueError, match=r"has such a layer, but at inference it is not called"):
        taps(Residual(), "spare", inputs=batch(1, 4))


def test_bad_arguments(functional):
    with pytest.raises(ValueError, match=r"`taps` must be .*: \[\]"):
        taps(functional, [])
    with pytest.raises(TypeError, match=r"`taps` must be .*: 5"):
        taps(functional, 5)
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model.*'resnet50'"):
        taps("resnet50")


def test_forward_with_a_name_that_is_not_there(functional):
    with pytest.raises(ValueError, match=r"Tap 'cnv' was not reached.*conv"):
        activations(functional, batch(1, 6, 6, 2), ["cnv"])


def test_edges_are_the_ways_that_meet_no_third_tap():
    #          +-> left -> left2 -+
    #  input --+                  +-> join -> top ; input --> skip (added to join's result)
    #          +-> right ---------+
    x = keras.Input((4,))
    left = layers.Dense(4, name="left")(x)
    left2 = layers.Dense(4, name="left2")(left)
    right = layers.Dense(4, name="right")(x)
    join = layers.Add(name="join")([left2, right])
    skip = layers.Add(name="skip")([join, x])
    graph = record_taps(keras.Model(x, layers.Dense(2, name="top")(skip)))

    def edges(*at):
        return set(graph.edges(list(at)))

    everything = ["input", "left", "left2", "right", "join", "skip", "top"]
    assert edges(*everything) == {
        ("input", "left"), ("left", "left2"), ("input", "right"), ("left2", "join"),
        ("right", "join"), ("join", "skip"), ("input", "skip"), ("skip", "top"),
    }  # fmt: skip
    assert edges("input", "left", "join", "top") == {
        ("input", "left"), ("left", "join"), ("input", "join"), ("join", "top"), ("input", "top"),
    }  # fmt: skip
    assert edges("left", "right", "top") == {("left", "top"), ("right", "top")}
    assert edges("left2", "right") == set()


def test_edges_of_one_tensor_under_two_names():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="x")], name="inner")
    z = keras.Input((4,))
    graph = record_taps(keras.Model(z, layers.Dense(2, name="top")(inner(z))))

    assert graph.edges(["input", "inner/x", "inner", "top"]) == [
        ("input", "inner/x"),
        ("inner/x", "inner"),
        ("inner/x", "top"),
    ]


def test_edges_through_a_loop(recurrent):
    assert record_taps(recurrent).edges(["input", "lstm:0", "bi", "each"]) == [
        ("input", "lstm:0"),
        ("lstm:0", "bi"),
        ("bi", "each"),
    ]


def test_nothing_of_the_model_changes(monte_carlo_dropout):
    x = keras.Input((4,))
    h = layers.Dense(6, activity_regularizer="l2", name="dense")(x)
    h = monte_carlo_dropout(layers.BatchNormalization(name="bn")(h))
    model = keras.Model(x, h)
    model(batch(9, 4), training=True)
    before = [variable.numpy() for variable in model.variables]
    losses = [float(loss) for loss in model.losses]
    assert len(losses) == 1

    taps(model)
    first, second = (activations(model, np.ones((5, 4), np.float32), ["mc"]) for _ in range(2))

    assert (first["mc"] == 0).any()
    np.testing.assert_array_equal(first["mc"], second["mc"])
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert [float(loss) for loss in model.losses] == losses


def test_building_does_not_advance_random_layers(monte_carlo_dropout):
    model = keras.Sequential([layers.Dense(3), monte_carlo_dropout])
    seeds = model.layers[1].seeds.state.numpy()

    taps(model, inputs=batch(2, 4))

    np.testing.assert_array_equal(model.layers[1].seeds.state.numpy(), seeds)
