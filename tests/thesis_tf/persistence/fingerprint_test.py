import inspect

import keras
import numpy as np
import pytest
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


def test_of_a_large_array_spaced_examples_are_hashed(monkeypatch):
    monkeypatch.setattr(fingerprint, "DATA_BYTES", 100 * 40)
    x = np.random.default_rng(0).normal(size=(1000, 5))
    first = fingerprint.of_arrays([x])
    changed = set()
    for row in range(1000):
        y = x.copy()
        y[row, -1] += 1
        if fingerprint.of_arrays([y]) != first:
            changed.add(row)

    assert len(changed) == 100
    assert {0, 999} <= changed
    assert max(np.diff(sorted(changed))) <= 11


def test_json():
    assert fingerprint.of_json({"a": 1, "b": [2]}) == fingerprint.of_json({"b": [2], "a": 1})
    assert fingerprint.of_json({"a": 1}) != fingerprint.of_json({"a": 2})
