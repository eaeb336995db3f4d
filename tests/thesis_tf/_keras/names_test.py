import keras
import pytest

from thesis_tf._keras import names, parameter_vector
from thesis_tf.probes.taps import record_taps, taps

L = keras.layers


@keras.saving.register_keras_serializable(package="names_test")
class Block(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(3, name="dense")
        self.parts = [L.Dense(3, name="last")]

    def build(self, shape):
        self.inner.build(shape)
        self.parts[0].build((*shape[:-1], 3))

    def call(self, x):
        return self.parts[0](self.inner(x))


@pytest.fixture
def model():
    encoder = keras.Sequential(
        [keras.Input((5, 4)), L.Dense(3, name="dense"), L.ReLU(name="relu")], name="encoder"
    )
    shared = L.Dense(3, name="shared")
    x = keras.Input((5, 4), name="x")
    h = shared(shared(encoder(x)))
    h = Block(name="block")(h)
    h = L.Bidirectional(L.LSTM(2, name="lstm"), name="both")(h)
    return keras.Model(x, L.Dense(2, name="head")(h), name="net")


OPTIONS = ["input", "a/dense", "b/dense", "b/dense#2", "b/lstm:0", "b/lstm:1", "c", "x/c/d"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("input", ["input"]),
        ("a/dense", ["a/dense"]),
        ("dense#2", ["b/dense#2"]),
        ("b/lstm", ["b/lstm:0", "b/lstm:1"]),
        ("lstm", ["b/lstm:0", "b/lstm:1"]),
        ("lstm:1", ["b/lstm:1"]),
        ("c", ["c"]),
        ("c/d", ["x/c/d"]),
        ("nse", []),
        ("", []),
    ],
)
def test_a_name_or_the_end_of_it(name, found):
    assert names.resolve("`taps`", name, OPTIONS) == found


def test_the_end_of_two_names():
    with pytest.raises(ValueError, match=r"`taps` must be .* It fits a/dense, b/dense\.") as caught:
        names.resolve("`taps`", "dense", OPTIONS)
    assert caught.value.argument == "taps"


def test_paths_of_layers(model):
    found = names.layers(model)
    assert set(found) >= {"encoder", "encoder/dense", "block/dense", "block/last", "shared"}
    assert found["encoder/dense"] is model.get_layer("encoder").get_layer("dense")
    assert all(found[path].name == path.rpartition("/")[2] for path in found)


def test_every_tap_of_a_layer_with_parameters_names_them(model):
    layers = names.layers(model)
    for tap in taps(model):
        path = tap.name.partition("#")[0].partition(":")[0]
        wanted = layers[path].trainable_variables if path in layers else []
        if wanted:
            assert names.variables("`parameters`", model, tap.name) == wanted


@pytest.mark.slow
def test_every_layer_with_parameters_is_a_place_or_in_a_loop(model):
    places = list(record_taps(model).taps)  # `taps` omits a second name of the same tensor
    for path, layer in names.layers(model).items():
        if layer.trainable_variables and "lstm" not in path:
            (place,) = names.resolve("`taps`", path, places)
            assert place == path


def test_variables(model):
    def found(name):
        return names.variables("`parameters`", model, name)

    dense = model.get_layer("encoder").get_layer("dense")
    assert found("encoder/dense/kernel") == [dense.kernel]
    assert found("net/encoder/dense/kernel") == [dense.kernel]
    assert found("encoder") == [dense.kernel, dense.bias]
    assert found("head") == found("net/head") == model.get_layer("head").trainable_variables
    assert found("last/bias") == [model.get_layer("block").parts[0].bias]
    assert found("shared#2") == model.get_layer("shared").trainable_variables
    assert found("net") == model.trainable_variables
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert found("*/kernel") == kernels
    assert found("*/dense") == [dense.kernel, dense.bias, *model.get_layer("block").inner.weights]


def test_variables_by_their_own_paths(model):
    for variable in model.trainable_variables:
        # Keras doesn't number layers with the same name, so variables may share a path.
        if [v.path for v in model.trainable_variables].count(variable.path) == 1:
            assert names.variables("`parameters`", model, variable.path) == [variable]


def test_layers_of_one_path_count_together():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__(name="pair")
            self.first, self.second = L.Dense(3, name="same"), L.Dense(2, name="same")

        def call(self, x):
            return self.second(self.first(x))

    model = Pair()
    model(keras.ops.ones((1, 4)))
    assert names.variables("`parameters`", model, "same") == model.trainable_variables
    assert names.variables("`parameters`", model, "same/bias") == [
        model.first.bias,
        model.second.bias,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dense", r"It fits encoder/dense, block/dense\."),
        ("encoder/relu", r"It has no trainable parameters"),
        ("haed", r"layers or trainable variables of net\. Received: 'haed'\. .* head, "),
        ("nothing*", r"Received: 'nothing\*'"),
    ],
)
def test_wrong_names(model, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        names.variables("`parameters`", model, name)
    assert caught.value.argument == "parameters"


def test_a_frozen_layer_has_no_parameters(model):
    model.get_layer("head").trainable = False
    with pytest.raises(ValueError, match="no trainable parameters"):
        names.variables("`parameters`", model, "head")


def test_the_selection_of_parameters_takes_names_of_taps(model):
    head = model.get_layer("head").trainable_variables
    assert parameter_vector.select(model, ["head", "shared#2"]) == [
        *model.get_layer("shared").trainable_variables,
        *head,
    ]


def dense(shape=(4,), **kwargs):
    """Returns a functional model with a layer called dense, whose Keras path is dense/kernel."""
    x = keras.Input(shape)
    return keras.Model(x, L.Dense(3, name="dense")(x), **kwargs)


def on(shape, *layers):
    """Returns a functional model with the outputs of layers for one input."""
    x = keras.Input(shape)
    return keras.Model(x, [layer(x) for layer in layers], name="net")


def nested_twice():
    outer = [on((4,), dense(name="inner")) for _ in range(2)]
    outer[0].name, outer[1].name = "enc", "dec"
    return on((4,), *outer)


def called_by_two():
    shared = L.Dense(4, name="shared")
    a, b = (keras.Sequential([keras.Input((4,)), shared], name=name) for name in "ab")
    x = keras.Input((4,))
    return keras.Model(x, a(b(x)))


def called_twice():
    shared = L.Dense(4, name="shared")
    x = keras.Input((4,))
    return keras.Model(x, shared(shared(x)))


def with_lora():
    model = dense()
    model.get_layer("dense").enable_lora(2)
    return model


class Subclassed(keras.Model):
    """Two layers of one name, a layer that another holds but doesn't call, and a parameter."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.first, self.second = L.Dense(3, name="same"), L.Dense(3, name="same")
        self.holder = L.Layer(name="holder")
        self.holder.held = L.Dense(3, name="held")
        self.spare = Block(name="spare")
        self.scale = self.add_weight(shape=(3,), name="scale")

    def build(self, shape):
        self.spare.build(shape)

    def call(self, x):
        return self.scale * self.holder.held(self.second(self.first(x)))


def subclassed():
    model = Subclassed()
    model(keras.ops.ones((1, 4)))
    return model


CASES = {
    "nested": (lambda: on((4,), dense(name="enc"), dense(name="dec")), ["enc/dense", "dec/dense"]),
    "nested twice": (nested_twice, ["enc/inner/dense", "dec/inner/dense"]),
    "called by two models": (called_by_two, ["b/shared"]),
    "called twice": (called_twice, ["shared"]),
    "bidirectional": (
        lambda: on((5, 4), L.Bidirectional(L.LSTM(2, name="lstm"), name="both")),
        ["both/forward_lstm", "both/backward_lstm"],
    ),
    "cells": (lambda: on((5, 4), L.RNN([L.GRUCell(2), L.LSTMCell(2)], name="rnn")), ["rnn"]),
    "unrolled": (
        lambda: on((2, 4), L.RNN(L.GRUCell(2, name="cell"), unroll=True, name="rnn")),
        ["rnn/cell"],
    ),
    "several tensors": (lambda: on((5, 4), L.LSTM(2, return_state=True, name="lstm")), ["lstm"]),
    "time distributed": (
        lambda: on((5, 4), L.TimeDistributed(L.Dense(2, name="dense"), name="each")),
        ["each"],
    ),
    "lora": (with_lora, ["dense"]),
    "subclassed": (
        subclassed,
        ["subclassed", "same", "same#2", "held", "spare/dense", "spare/last"],
    ),
}
# Their layers aren't called, or have no name of their own.
NO_TAPS = {"subclassed", "spare/dense", "spare/last"}


@pytest.mark.filterwarnings("ignore:`build..` was called on layer")
@pytest.mark.parametrize("case", CASES)
def test_the_layers_of_variables_are_those_that_taps_prints(case):
    make, expected = CASES[case]
    model = make()
    found = names.of_variables(model, model.trainable_variables)
    assert list(dict.fromkeys(found)) == expected
    printed = {tap.name.partition(":")[0] for tap in taps(model)}
    assert set(found) - NO_TAPS <= printed


def test_the_layers_of_some_variables():
    model = on((4,), dense(name="enc"), dense(name="dec"))
    dec = model.get_layer("dec").trainable_variables
    assert names.of_variables(model, dec[::-1]) == ["dec/dense", "dec/dense"]


def test_a_path_of_several_variables_is_refused():
    model = on((4,), dense(name="enc"), dense(name="dec"))
    assert len({v.path for v in model.trainable_variables}) == 2
    with pytest.raises(ValueError, match=r"It fits enc/dense/kernel, dec/dense/kernel\."):
        names.variables("`parameters`", model, "dense/kernel")
    kernel = model.get_layer("dec").get_layer("dense").kernel
    assert names.variables("`parameters`", model, "dec/dense/kernel") == [kernel]
