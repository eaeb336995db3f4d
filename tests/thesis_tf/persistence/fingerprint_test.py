import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf.persistence import fingerprint


def build(merge="sum", factor=2.0, order=1, dtype="float32", backwards=False, name=None, seed=None):
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 3))
    h = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=merge)(x)
    h = layers.GRU(4, go_backwards=backwards)(h)
    a, b = layers.Dense(4, activation="relu", dtype=dtype)(h), keras.ops.relu(h) * factor
    inner = keras.Sequential(
        [keras.Input((8,)), layers.Dense(3, name=name), layers.Dropout(0.5, seed=seed)]
    )
    return keras.Model(x, inner(keras.ops.concatenate([a, b][::order], 1)))


def test_the_same_model_has_the_same_hash():
    first = fingerprint.of_model(build())

    assert first == fingerprint.of_model(build())  # with other automatic names
    assert first == fingerprint.of_model(build(name="another_name"))
    assert first == fingerprint.of_model(build(seed=5))
    frozen = build()
    frozen.trainable = False
    assert first == fingerprint.of_model(frozen)
    assert len(first) == 32


HASHES = """
import json, sys
import keras
from keras import layers
from thesis_tf.persistence import fingerprint

keras.Sequential([keras.Input((2,)), layers.Dense(4)])  # so that names differ
models = [build(), keras.saving.load_model(sys.argv[1])]
print(json.dumps([fingerprint.of_model(model) for model in models]))
"""


@pytest.mark.slow
def test_the_same_model_has_the_same_hash_in_another_process(run_python, tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")

    hashes = run_python(inspect.getsource(build) + HASHES, tmp_path / "model.keras")

    assert hashes == [fingerprint.of_model(model)] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"merge": "ave"},
        {"factor": 3.0},
        {"order": -1},
        {"dtype": "mixed_bfloat16"},
        {"backwards": True},
    ],
    ids=str,
)
def test_settings_and_wiring_count(change):
    assert fingerprint.of_model(build(**change)) != fingerprint.of_model(build())


def test_every_weight_counts():
    model = build()
    seen = {fingerprint.of_model(model)}
    for weight in model.weights:
        values = weight.numpy()
        values.flat[-1] += 1
        weight.assign(values)
        seen.add(fingerprint.of_model(model))

    assert len(seen) == 1 + len(model.weights)


def test_custom_layers():
    class Scale(layers.Layer):
        def __init__(self, inner, factor):  # Keras can't derive its config
            super().__init__()
            self.inner, self.factor = inner, factor

        def call(self, x):
            return self.inner(x) * self.factor

    def make(units):
        keras.utils.set_random_seed(0)
        x = keras.Input((3,))
        return keras.Model(x, Scale(layers.Dense(units), np.float32(2))(x))

    assert fingerprint.of_model(make(4)) == fingerprint.of_model(make(4))
    assert fingerprint.of_model(make(4)) != fingerprint.of_model(make(5))


def test_arrays():
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    first = fingerprint.of_arrays([x])
    others = [
        [x.reshape(6, 4)],
        [x.astype(np.float64)],
        [x.view(np.int32)],
        [x[::-1]],
        [x, x],
        [x[:2], x[2:]],
        [],
    ]

    assert fingerprint.of_arrays([x.copy()]) == first
    assert fingerprint.of_arrays([np.asfortranarray(x)]) == first
    assert len({first, *map(fingerprint.of_arrays, others)}) == 1 + len(others)


def test_of_a_large_array_every_example_is_looked_at(monkeypatch):
    monkeypatch.setattr(fingerprint, "DATA_BYTES", 100 * 40)
    monkeypatch.setattr(fingerprint, "_CHUNK", 1000)
    x = np.random.default_rng(0).normal(size=(200, 4, 5))
    first = fingerprint.of_arrays([x])

    def changed(row, *place):
        y = x.copy()
        y[(row, *place)] += 1
        return fingerprint.of_arrays([y]) != first

    assert all(changed(row) for row in range(200))  # an example that is another
    assert all(changed(row, 1, 4) for row in range(200))  # its middle
    # Evenly spaced examples, whole: a half of all bytes.
    whole = [row for row in range(200) if changed(row, 0, 0)]
    assert len(whole) == 100 * 40 // 2 // x[0].nbytes
    assert {0, 199} <= set(whole)
    assert max(np.diff(whole)) <= 200 / (len(whole) - 1) + 1
    # The order, and the number.
    assert fingerprint.of_arrays([x[[1, 0, *range(2, 200)]]]) != first
    assert fingerprint.of_arrays([x[:-1]]) != first
    assert fingerprint.of_arrays([np.asfortranarray(x)]) == first


SAME = [
    (np.arange(6.0), np.arange(6.0).astype(">f8")),
    (np.arange(6), np.arange(12)[::2] // 2),
    (np.array(["a", "bc"], object), np.array(["a", "bc"], object)),
    (np.array([b"a", b"bc"], object), np.array([b"a", bytes([98, 99])], object)),
    (np.array(3.0), np.float64(3.0)),
    (np.zeros((0, 3)), np.empty((0, 3))),
    (np.array([np.nan, -0.0]), np.array([np.nan, -0.0])),
]
OTHERS = [
    (np.array(["a", "bc"], object), np.array(["ab", "c"], object)),
    (np.array(["a"], object), np.array([b"a"], object)),
    (np.array(["a", "b"]), np.array(["a", "c"])),
    (np.array([[1, "a"]], object), np.array([[1, "b"]], object)),
    (np.array([None, 1.5], object), np.array([None, 1.25], object)),
    (np.array([0.0]), np.array([-0.0])),
    (np.zeros((0, 3)), np.zeros((0, 4))),
    (np.arange(3), np.arange(3).astype(">i4")),
    (np.array([4], "M8[D]"), np.array([5], "M8[D]")),
    (np.array([2**53]), np.array([2**53 + 1])),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_arrays_of_equal_values_are_the_same(a, b):
    assert fingerprint.of_arrays([a]) == fingerprint.of_arrays([np.asarray(b)])


@pytest.mark.parametrize(("a", "b"), OTHERS)
def test_arrays_of_other_values_are_not(a, b):
    assert fingerprint.of_arrays([a]) != fingerprint.of_arrays([b])


def test_objects_whose_contents_are_unknown_are_refused():
    with pytest.raises(TypeError, match=r"one of numbers or strings\. Received: one of Python obj"):
        fingerprint.of_arrays([np.array([object()])])


class Failing(layers.Layer):
    def __init__(self, factor, table=()):
        super().__init__()
        self.factor, self.table = factor, np.array(table)
        self.inner = layers.Dense(4)

    def call(self, x):
        return self.inner(x) * self.factor

    def get_config(self):
        return {"rate": self.rate}  # as in a public model


class Unknowing(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def get_config(self):
        return {}


def scaled(factor):
    return lambda x: x * factor


class Set(layers.Layer):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


def set_later(factor):
    model = wired(Set())
    model.layers[1].factor = factor
    return model


def wired(*layers_of, order=1):
    x = keras.Input((3,))
    parts = [layer(x) for layer in layers_of]
    return keras.Model(x, keras.ops.concatenate([*parts, x * 2][::order], -1))


def call_of_another_code():
    class Failing(globals()["Failing"]):
        def call(self, x):
            return self.inner(x) + self.factor

    return wired(Failing(2.0))


MODELS = [
    ("a number", lambda: wired(Failing(2.0)), lambda: wired(Failing(3.0))),
    ("what is set later", lambda: set_later(2.0), lambda: set_later(3.0)),
    ("an array", lambda: wired(Failing(2.0)), lambda: wired(Failing(2.0, (1,)))),
    ("the wiring", lambda: wired(Failing(2.0)), lambda: wired(Failing(2.0), order=-1)),
    ("the code", lambda: wired(Failing(2.0)), call_of_another_code),
    (
        "a function",
        lambda: wired(Unknowing(scaled(2.0))),
        lambda: wired(Unknowing(scaled(3.0))),
    ),
    (
        "an activation",
        lambda: wired(layers.Dense(2, activation=scaled(2.0))),
        lambda: wired(layers.Dense(2, activation=scaled(3.0))),
    ),
    (
        "a Lambda",
        lambda: wired(layers.Lambda(scaled(2.0))),
        lambda: wired(layers.Lambda(scaled(3.0))),
    ),
]


@pytest.mark.parametrize(
    ("what", "one", "other"), MODELS, ids=lambda v: v if type(v) is str else ""
)
def test_what_a_config_leaves_out_counts(what, one, other):
    def made(build):
        keras.utils.set_random_seed(0)
        return build()

    first, fitted = fingerprint.of_model(made(one)), made(one)
    assert fingerprint.of_model(fitted) == first
    assert fingerprint.of_model(made(other)) != first
    fitted.compile("sgd", "mse")
    assert fingerprint.of_model(fitted) == first


def weighted(weight):
    def loss(y, outputs):
        return weight * keras.losses.mean_squared_error(y, outputs)

    return loss


def with_default(weight):
    def loss(y, outputs, weight=weight):
        return weight * keras.losses.mean_squared_error(y, outputs)

    return loss


class Weighted(keras.losses.Loss):
    def __init__(self, weight):
        super().__init__()
        self._weight = weight

    def call(self, y, outputs):
        return self._weight * keras.losses.mean_squared_error(y, outputs)


class Bound:
    def __init__(self, weight):
        self.weight = weight

    def loss(self, y, outputs):
        return self.weight * keras.losses.mean_squared_error(y, outputs)

    __call__ = loss


# Loss functions of one name, by a number.
LOSSES = {
    "closure": weighted,
    "default": with_default,
    "array": lambda w: weighted(np.array([1, w])),
    "tensor": lambda w: weighted(tf.constant(w)),
    "lambda": lambda w: lambda y, p: w * keras.losses.mean_squared_error(y, p),
    "partial": lambda w: functools.partial(weighted, w),
    "method": lambda w: Bound(w).loss,
    "object": Bound,
    "subclass": Weighted,
    "tf.function": lambda w: tf.function(weighted(w)),
    "in a dict": lambda w: {"a": weighted(w), "b": "mse"},
    "in a list": lambda w: ["mse", weighted(w)],
    "Huber": lambda w: keras.losses.Huber(delta=w),
    "CosineSimilarity": lambda w: keras.losses.CosineSimilarity(axis=-int(w)),
    "SparseCategoricalCrossentropy": lambda w: keras.losses.SparseCategoricalCrossentropy(
        axis=-int(w)
    ),
    "CategoricalCrossentropy": lambda w: keras.losses.CategoricalCrossentropy(
        label_smoothing=w / 10
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_are_what_they_hold(kind):
    make = LOSSES[kind]
    assert fingerprint.of_callable(make(1.0)) == fingerprint.of_callable(make(1.0))
    assert fingerprint.of_callable(make(1.0)) != fingerprint.of_callable(make(2.0))


def test_lambdas_of_one_line_differ():
    one, other = (lambda y, p: (y - p) ** 2), (lambda y, p: (p - y) ** 2)  # fmt: skip
    assert fingerprint.of_callable(one) != fingerprint.of_callable(other)


def test_what_training_changes_does_not_count():
    variable = keras.Variable(1.0)
    loss = weighted(variable)
    first = fingerprint.of_callable(loss)
    variable.assign(2.0)
    assert fingerprint.of_callable(loss) == first


IN_ANY_PROCESS = """
import json
import keras
import numpy as np
from thesis_tf.persistence import fingerprint

def weighted(weight):
    return lambda y, p: weight * keras.losses.mean_squared_error(y, p)

values = [weighted(2.0), keras.losses.Huber(delta=2.0), "mse", {"a": {"x", "y", "z"}}]
found = [fingerprint.of_callable(value) for value in values]
found.append(fingerprint.of_arrays([np.array(["good", "b" + "ad"], object)]))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_losses_and_strings_are_the_same_in_another_process(run_python):
    here = {}
    exec(IN_ANY_PROCESS, here)
    assert run_python(IN_ANY_PROCESS) == here["found"]


def test_no_setting_of_a_loss_of_keras_is_left_out():
    """Of every loss of Keras, another value of every argument gives another fingerprint."""
    tried = []
    for kind in vars(keras.losses).values():
        if not (inspect.isclass(kind) and issubclass(kind, keras.losses.Loss)):
            continue
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            default = parameter.default
            if name in ("reduction", "name", "dtype") or default is parameter.empty:
                continue
            if isinstance(default, bool):
                other = not default
            elif default is None:
                other = 0
            else:
                other = default + 1 if isinstance(default, int) else default / 2 + 0.1
            tried.append(name)
            same = fingerprint.of_callable(kind()) == fingerprint.of_callable(kind(**{name: other}))
            assert not same, (kind, name)
    assert {"delta", "axis", "from_logits", "label_smoothing", "ignore_class"} <= set(tried)


def test_json():
    assert fingerprint.of_json({"a": 1, "b": [2]}) == fingerprint.of_json({"b": [2], "a": 1})
    assert fingerprint.of_json({"a": 1}) != fingerprint.of_json({"a": 2})
