import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers

from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.model_parameters import (
    mix_parameters,
    read_parameters,
    spec_of,
    write_parameters,
)

# This code also runs in another process.
PROBLEM = """
import keras
import numpy as np
from thesis_tf._keras.objective import Objective
from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.model_parameters import spec_of

def spec(units=4, activation="relu", loss=None, labels=0, block_size=8, splits=("train", "test")):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20) + labels
    model = keras.Sequential([
        keras.Input((3,)), keras.layers.Dense(units, activation), keras.layers.Dense(2),
    ])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    name = Objective(model, loss).loss_name
    data = {"train": (x, y), "test": (x[:5], y[:5]), "validation": (x[:3], y[:3])}
    return spec_of(model, name, by_split({s: data[s] for s in splits}), block_size)
"""
HERE = {}
exec(PROBLEM, HERE)
spec = HERE["spec"]


class Counter(layers.Layer):
    """Has an integer weight without a gradient."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), dtype="int64", trainable=False, name="count")

    def call(self, x):
        return x


def network(dtype, seed):
    """Returns a network with moving averages, a scalar and an integer, all different."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            Counter(),
            layers.Dropout(0.5, seed=1),
            layers.Dense(1, dtype=dtype),
        ]
    )
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(1, 100, weight.shape).astype(weight.numpy().dtype))
    return model


DTYPES = ["float32", "float64", "bfloat16", "mixed_bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_come_back_to_the_bit(dtype):
    one, other = network(dtype, 0), network(dtype, 1)
    buffer = read_parameters(one)
    assert buffer.dtype == np.uint8
    assert buffer.ndim == 1
    assert len(buffer) == sum(weight.numpy().nbytes for weight in one.weights)
    write_parameters(other, buffer)
    for a, b in zip(one.weights, other.weights, strict=True):
        assert (a.dtype, a.numpy().tobytes()) == (b.dtype, b.numpy().tobytes()), a.path
    assert "moving_variance" in {weight.name for weight in one.weights}


def test_a_buffer_that_is_used_again_changes_no_model():
    one, other = network("float32", 0), network("float32", 1)
    aligned = np.empty(len(read_parameters(one)) + 64, np.uint8)
    start = -aligned.ctypes.data % 64
    for first in (start, start + 1):
        buffer = aligned[first : first + len(read_parameters(one))]
        buffer[:] = read_parameters(one)
        write_parameters(other, buffer)
        buffer[:] = 0
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        expected = read_parameters(one)
        one.weights[0].assign(one.weights[0] * 2)
        assert (read_parameters(one) != expected).any()


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_floating_weights_move_by_a_share(dtype, share):
    one, other = network(dtype, 0), network(dtype, 1)
    own, theirs = ([w.numpy() for w in m.weights] for m in (one, other))
    mix_parameters(one, read_parameters(other), share)
    for variable, a, b in zip(one.weights, own, theirs, strict=True):
        now = variable.numpy()
        if variable.dtype == "int64":
            assert now == a
        elif share == 1:
            assert now.tobytes() == b.tobytes()
        else:
            step = np.finfo(np.float64).eps if a.dtype == np.float64 else 2.0**-23
            if a.dtype == ml_dtypes.bfloat16:
                step = 2.0**-7
            a, b = a.astype(float), b.astype(float)
            np.testing.assert_allclose(now.astype(float), a + share * (b - a), rtol=2 * step)
            assert (now != a).any()


@pytest.mark.slow
def test_the_same_run_in_another_process(run_python):
    script = PROBLEM + "\nprint(__import__('json').dumps(spec().to_json()))"
    assert run_python(script) == spec().to_json()


@pytest.mark.slow
def test_names_and_weights_and_the_order_of_splits_do_not_matter():
    keras.backend.clear_session()
    first = spec()
    assert first == spec() == spec(splits=("test", "train"))
    assert first.splits == (("test", 5), ("train", 20))
    assert first.parameter_bytes == 4 * (3 * 4 + 4 + 4 * 2 + 2)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"units": 5}, {"model", "parameter_bytes"}),
        ({"activation": "tanh"}, {"model"}),
        ({"loss": "sparse_categorical_crossentropy"}, {"model"}),
        ({"loss": keras.losses.SparseCategoricalCrossentropy()}, {"model"}),
        ({"labels": 1}, {"data"}),
        ({"splits": ("train", "validation")}, {"data", "splits"}),
        ({"block_size": 9}, {"block_size"}),
    ],
)
def test_another_run_is_told_apart(options, fields):
    one, other = spec(), spec(**options)
    assert {f for f in vars(one) if getattr(one, f) != getattr(other, f)} == fields


def test_a_spec_of_bfloat16_counts_its_bytes():
    model = network("bfloat16", 0)
    data = by_split({"train": (np.zeros((4, 3)), np.zeros(4))})
    assert spec_of(model, "loss", data, 2).parameter_bytes == len(read_parameters(model))
