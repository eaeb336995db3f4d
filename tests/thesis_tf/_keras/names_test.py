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
