import json
import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf._keras.batches import Stream
from thesis_tf.probes import FeatureStore, Reduction, extract

OPTIMIZED_GRAPHS = True

# Keras draws the same weights in each test, so these tolerances are reproducible.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def model():
    return convnet()


def convnet(scale=1.0):
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), name="image")
    h = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    h = layers.Dropout(0.5, name="drop")(layers.BatchNormalization(name="bn")(h))
    h = layers.Add(name="add")([h, layers.Conv2D(4, 1, name="side")(h)])
    h = layers.Rescaling(scale, name="scaled")(h)
    h = layers.GlobalAveragePooling2D(name="pool")(h)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="top")(h))


def images(examples, seed=0):
    return np.random.default_rng(seed).normal(size=(examples, 8, 8, 3)).astype(np.float32)


class Recorded(np.ndarray):
    """An array that records the slices that are read from it."""

    def __getitem__(self, key):
        if isinstance(key, slice):
            self.taken = [*getattr(self, "taken", []), (key.start, key.stop)]
        return super().__getitem__(key)


def same_files(one, other):
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def columns_of(store):
    return {name: store.read(name) for name in [tap.name for tap in store.taps] + store.predictions}


@pytest.mark.parametrize(
    "x",
    [
        images(4)[..., :2],
        images(4)[0],
        [images(4), images(4)],
        tf.data.Dataset.from_tensor_slices(images(4)),
    ],
    ids=["channels", "one image", "two inputs", "unbatched"],
)
def test_inputs_that_do_not_suit_the_model(model, tmp_path, x):
    with pytest.raises(ValueError, match=r"`x` must be examples of shape \(8, 8, 3\)"):
        extract(model, x, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_is_no_larger_than_the_data(model, tmp_path, monkeypatch):
    sizes = []
    padded = Stream._padded
    monkeypatch.setattr(
        Stream, "_padded", lambda self, *args: sizes.append(self.batch_size) or padded(self, *args)
    )
    extract(model, images(5), tmp_path, batch_size=10**9)
    assert sizes == [5]


def test_features_are_the_reduced_activations(model, tmp_path):
    x = images(21)

    store = extract(model, x, tmp_path, batch_size=8)

    names = [tap.name for tap in store.taps]
    assert names[:3] == ["input", "conv", "bn"]
    assert names[-2:] == ["pool", "top"]
    assert store.examples == 21
    np.testing.assert_allclose(store.read("input"), x.mean((1, 2)), **CLOSE)
    for name in ("conv", "bn", "side", "add"):
        part = keras.Model(model.input, model.get_layer(name).output)
        np.testing.assert_allclose(
            store.read(name), part(x, training=False).numpy().mean((1, 2)), **CLOSE
        )
    np.testing.assert_allclose(store.read("top"), model(x, training=False), **CLOSE)
    np.testing.assert_array_equal(store.read("prediction:output"), store.read("top"))
    assert ("conv", "bn") in store.edges


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_batches_of_any_size(model, tmp_path, examples, batch_size):
    x = images(examples)

    store = extract(model, x, tmp_path, taps=["conv", "pool"], batch_size=batch_size)

    assert store.examples == examples
    part = keras.Model(model.input, model.get_layer("pool").output)
    np.testing.assert_allclose(store.read("pool"), part(x, training=False), **CLOSE)
    # The batch size isn't a part of the shapes of taps.
    assert store.taps[0].shape == (None, 6, 6, 4)


def test_predictions_are_kept_beside_the_taps_and_not_counted_twice(model, tmp_path):
    store = extract(model, images(5), tmp_path / "a", taps=["conv", "output"])
    assert [tap.name for tap in store.taps] == ["conv", "output"]
    assert store.predictions == ["prediction:output"]

    # An output that isn't a vector of class scores isn't a prediction.
    x = keras.Input((8, 8, 3))
    store = extract(keras.Model(x, layers.Conv2D(2, 3)(x)), images(5), tmp_path / "b", taps="input")
    assert store.predictions == []


def test_a_reduction_of_another_size(model, tmp_path):
    store = extract(
        model,
        images(5),
        tmp_path,
        taps=["conv", "top"],
        reduction=Reduction("subset", size=10, seed=3),
    )

    assert (store.features("conv"), store.features("top")) == (10, 3)
    assert store.reduction == Reduction("subset", size=10, seed=3)
    everything = keras.Model(model.input, model.get_layer("conv").output)(images(5))
    expected = Reduction("subset", size=10, seed=3)(everything, "conv")
    np.testing.assert_allclose(store.read("conv"), expected, **CLOSE)
    again = extract(model, images(5), tmp_path / "b", taps=["conv"], reduction="subset:10", seed=3)
    np.testing.assert_array_equal(again.read("conv"), store.read("conv"))


def datasets(x):
    y = np.zeros(len(x), np.int32)
    slices = tf.data.Dataset.from_tensor_slices
    return {
        "inputs": slices(x).batch(4),
        "pairs": slices((x, y)).batch(16),
        "weighted": slices((x, y, y)).batch(5),
        "ragged batches": slices(x[:3]).batch(3).concatenate(slices(x[3:]).batch(7)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inputs", "pairs", "weighted", "ragged batches"])
def test_a_dataset_gives_what_arrays_give(model, tmp_path, kind):
    x = images(19)
    arrays = extract(model, x, tmp_path / "arrays", batch_size=8)

    store = extract(model, datasets(x)[kind], tmp_path / "dataset", batch_size=8)

    assert store.examples == 19
    for name, values in columns_of(arrays).items():
        np.testing.assert_array_equal(store.read(name), values)


def test_inputs_in_a_dict(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    join = layers.Concatenate(name="join")([a, b])
    model = keras.Model({"a": a, "b": b}, {"s": layers.Dense(2)(join), "t": layers.Dense(4)(a)})
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(9, 3)), "b": rng.normal(size=(9, 2)).astype(np.float32)}

    store = extract(model, x, tmp_path / "arrays", taps=["input/b", "join"], batch_size=4)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    same = extract(model, dataset, tmp_path / "dataset", taps=["input/b", "join"], batch_size=4)

    np.testing.assert_allclose(store.read("join"), np.concatenate([x["a"], x["b"]], 1), **CLOSE)
    np.testing.assert_array_equal(store.read("input/b"), x["b"])
    assert store.predictions == ["prediction:output/s", "prediction:output/t"]
    np.testing.assert_allclose(store.read("prediction:output/t"), model(x)["t"], **CLOSE)
    for name, values in columns_of(store).items():
        np.testing.assert_array_equal(same.read(name), values)


def test_sequences_with_masks(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 4, mask_zero=True, name="embedding"),
            layers.LSTM(3, return_sequences=True, name="lstm"),
        ]
    )
    tokens = np.array([[1, 2, 0, 0], [3, 4, 5, 0], [6, 0, 0, 0]], np.int32)
    lengths = [2, 3, 1]

    mean = extract(model, tokens, tmp_path / "mean", taps=["embedding", "lstm"], reduction="mean")
    last = extract(model, tokens, tmp_path / "last", taps=["embedding", "lstm"], reduction="last")

    table, states = model.layers[0](tokens).numpy(), model(tokens).numpy()
    for index, length in enumerate(lengths):
        np.testing.assert_allclose(
            mean.read("embedding")[index], table[index, :length].mean(0), **CLOSE
        )
        np.testing.assert_allclose(
            mean.read("lstm")[index], states[index, :length].mean(0), **CLOSE
        )
        np.testing.assert_allclose(last.read("lstm")[index], states[index, length - 1], **CLOSE)


@pytest.mark.parametrize(
    ("policy", "dtype"), [("float64", "float64"), ("mixed_bfloat16", "float32")]
)
def test_dtypes(tmp_path, policy, dtype):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, dtype=policy, name="a"), layers.Dense(2, name="b")]
    )
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)

    store = extract(model, x, tmp_path, taps=["a", "b"])

    assert store.taps[0].dtype == ("float64" if policy == "float64" else "bfloat16")
    assert (store.dtype("a"), store.dtype("b")) == (dtype, "float32")
    np.testing.assert_allclose(store.read("a"), tf.cast(model.layers[0](x), dtype), **CLOSE)


def test_nothing_of_the_model_changes(monte_carlo_dropout, tmp_path):
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(4, 3, activity_regularizer="l2")(x)
    h = monte_carlo_dropout(layers.BatchNormalization()(h))
    model = keras.Model(x, layers.Dense(2)(h))
    model(images(4), training=True)
    before = [variable.numpy() for variable in model.variables]
    losses = [float(loss) for loss in model.losses]

    stores = [extract(model, images(20), tmp_path / name, taps="mc", batch_size=8) for name in "ab"]

    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert losses
    assert [float(loss) for loss in model.losses] == losses
    np.testing.assert_array_equal(stores[0].read("mc"), stores[1].read("mc"))


def test_what_is_complete_is_not_computed_again(model, tmp_path):
    x = images(40).view(Recorded)
    extract(model, x, tmp_path, batch_size=16)
    assert x.taken == [(0, 16), (16, 32), (32, 40)]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    x.taken = []

    # Another model object with the same weights, or another batch size, changes nothing.
    store = extract(convnet(), x, tmp_path, batch_size=8)

    assert store.examples == 40
    assert x.taken == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": convnet}, None),
        (
            {"model": lambda: convnet(scale=2.0)},
            r"another model \(its weights or settings differ\)",
        ),
        ({"x": images(12, seed=1)}, "another data set"),
        ({"x": images(11)}, "another data set"),
        ({"reduction": "subset:5"}, "another reduction"),
        ({"seed": 1}, None),
        ({"taps": ["conv"]}, "another choice of taps"),
        ({"taps": ["conv", "bn", "pool"]}, "another choice of taps"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, change, said):
    before = {"model": convnet, "x": images(12), "taps": ["conv", "bn"]}
    folder = tmp_path / "store"
    extract(before["model"](), before["x"], folder, taps=before["taps"])
    now = {**before, **change}
    now["model"] = now["model"]()

    if said is None:
        extract(folder=folder, **now)
        return
    with pytest.raises(ValueError, match=rf"holds features of {said}.*overwrite=True"):
        extract(folder=folder, **now)
    extract(folder=folder, overwrite=True, **now)
    extract(folder=tmp_path / "fresh", **now)
    assert same_files(folder, tmp_path / "fresh")


def test_changed_weights_are_another_model(model, tmp_path):
    extract(model, images(5), tmp_path, taps="conv")
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel + 1e-3)

    with pytest.raises(ValueError, match="another model"):
        extract(model, images(5), tmp_path, taps="conv")


def test_harm_is_found_and_mended_by_overwriting(model, tmp_path):
    truth = extract(model, images(12), tmp_path, taps="conv").read("conv")
    path = tmp_path / "00000-of-00001" / "000.npy"
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(data)

    with pytest.raises(ValueError, match=r"'conv'\) is not what was written.*overwrite=True"):
        extract(model, images(12), tmp_path, taps="conv")
    store = extract(model, images(12), tmp_path, taps="conv", overwrite=True)
    np.testing.assert_array_equal(store.read("conv"), truth)


@pytest.mark.slow
def test_shards_make_one_store(model, tmp_path):
    x = images(21)
    whole = extract(model, x, tmp_path / "whole", batch_size=4)

    parts = [
        extract(model, x, tmp_path / "parts", batch_size=4, shard=(i, 8)) for i in range(8, 0, -1)
    ]

    assert parts[:7] == [None] * 7
    assert parts[7].examples == 21
    assert len(list((tmp_path / "parts").iterdir())) == 8
    for name, values in columns_of(whole).items():
        np.testing.assert_allclose(parts[7].read(name), values, **CLOSE)


def test_more_shards_than_examples(model, tmp_path):
    x = images(2)

    *_, store = (extract(model, x, tmp_path, taps="conv", shard=(i, 5)) for i in range(1, 6))

    assert store.examples == 2
    np.testing.assert_allclose(
        store.read("conv"), extract(model, x, tmp_path / "whole", taps="conv").read("conv"), **CLOSE
    )


def test_shards_of_other_work_are_refused_before_the_work(model, tmp_path):
    other = convnet(scale=2.0)
    extract(other, images(12), tmp_path, taps="conv", shard=(2, 2))
    x = images(12).view(Recorded)

    with pytest.raises(ValueError, match="00001-of-00002 was made from another model"):
        extract(model, x, tmp_path, taps="conv", shard=(1, 2))
    with pytest.raises(ValueError, match="belongs to another number of shards"):
        extract(other, x, tmp_path, taps="conv", shard=(1, 3))
    assert not hasattr(x, "taken")

    # `overwrite` deletes a shard of another model, and keeps one of this model.
    assert extract(model, x, tmp_path, taps="conv", shard=(1, 2), overwrite=True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["00000-of-00002"]
    assert extract(model, x, tmp_path, taps="conv", shard=(2, 2), overwrite=True).examples == 12


def test_numbers_that_are_not_finite(model, tmp_path):
    x = images(20)
    x[13, 2, 2, 1] = np.inf
    x[14, 2, 2, 1] = np.nan  # a ReLU may turn it into zero

    with pytest.raises(ValueError, match=r"Tap 'input' is not finite for example 13 \(2 of 8 in"):
        extract(model, x, tmp_path / "a", batch_size=8)
    with pytest.raises(ValueError, match=r"Tap 'conv' is not finite for example 13"):
        extract(model, x, tmp_path / "b", taps=["conv", "top"], batch_size=8)
    # The number is that in the whole data set, also in the second of two shards.
    with pytest.raises(ValueError, match="example 13 "):
        extract(model, x, tmp_path / "c", batch_size=8, shard=(2, 2))
    with pytest.raises(FileNotFoundError, match="is missing"):
        FeatureStore(tmp_path / "a")


def test_a_tap_that_mixes_examples(tmp_path):
    x = keras.Input((4, 3))
    h = layers.Lambda(lambda t: tf.reshape(t, (-1, 3)), output_shape=(3,), name="steps")(x)
    model = keras.Model(x, [layers.Dense(2, name="top")(x), h])

    with pytest.raises(ValueError, match=r"Tap 'steps' must be one row for each of 5 .*: 20 rows"):
        extract(model, np.zeros((5, 4, 3), np.float32), tmp_path, taps="steps")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taps": "con"}, "No tap.*matches 'con'.*conv"),
        ({"reduction": "median"}, "`reduction` must be one of"),
        ({"reduction": "last", "taps": "pool"}, r"`reduction` 'last': tap 'pool' must be \(batch"),
        ({"shard": (0, 2)}, r"`shard` must be \(i, n\)"),
        ({"shard": (3, 2)}, r"`shard` must be \(i, n\)"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"x": np.zeros((0, 8, 8, 3))}, "The data must be at least one example"),
        ({"x": {"a": np.zeros((4, 3)), "b": np.zeros((5, 3))}}, r"arrays of one length.*\[4, 5\]"),
        ({"x": [[1.0, 2.0]]}, "The data must be arrays with a first axis"),
        ({"x": tf.data.Dataset.from_tensors(np.zeros((2, 8, 8, 3))).repeat()}, "Use take"),
        (
            {"x": tf.data.Dataset.from_tensors(np.zeros((2, 8, 8, 3))), "shard": (1, 2)},
            "`x` must be arrays when `shard` is given",
        ),
    ],
)  # fmt: skip
def test_bad_arguments(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        extract(folder=tmp_path, **{"model": model, "x": images(4), **arguments})
    assert not list(tmp_path.iterdir())  # it failed before it wrote anything


def test_models_of_a_fixed_batch_size(tmp_path):
    x = keras.Input(batch_shape=(4, 6, 3))
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(5, stateful=True, name="lstm")(x)))
    data = np.random.default_rng(0).normal(size=(10, 6, 3)).astype(np.float32)

    with pytest.raises(ValueError, match="`batch_size` must be 4, the fixed size of the model"):
        extract(model, data, tmp_path)
    store = extract(model, data, tmp_path, taps="lstm", batch_size=4)

    # The state is not passed from one batch to the next.
    for first in (0, 4):
        model.get_layer("lstm").reset_state()
        expected = model.get_layer("lstm")(data[first : first + 4])
        np.testing.assert_allclose(store.read("lstm", slice(first, first + 4)), expected, **CLOSE)
    with pytest.raises(ValueError, match=r"state of an earlier batch.*lstm.reset_state\(\)"):
        extract(model, data, tmp_path / "other", taps="lstm", batch_size=4)


RUN = """
    import json, sys
    import numpy as np

    model, x, store, shards, devices = sys.argv[1:]
    import tensorflow as tf
    if int(devices) > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * int(devices)
        tf.config.set_logical_device_configuration(cpu, parts)
    import contextlib
    import keras
    from thesis_tf.probes import extract

    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    scope = contextlib.nullcontext()
    if int(devices) > 1:
        scope = tf.distribute.MirroredStrategy(names).scope()
    with scope:
        model = keras.saving.load_model(model)
        for shard in json.loads(shards):
            extract(model, np.load(x), store, batch_size=32, shard=shard)
"""


@pytest.fixture
def start(start_python, tmp_path):
    """Returns a function that starts an extraction in a separate process."""
    convnet().save(tmp_path / "model.keras")

    def run(x, store, shards=((1, 1),), devices=1):
        np.save(tmp_path / "x.npy", x)
        paths = (tmp_path / "model.keras", tmp_path / "x.npy", store)
        return start_python(RUN, *paths, json.dumps(shards), devices)

    return run


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_stopped(start, tmp_path):
    x = images(30_000)
    process = start(x, tmp_path / "killed")
    manifest = tmp_path / "killed" / "00000-of-00001" / "manifest.json"
    while process.poll() is None and not manifest.exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = json.loads(manifest.read_text())["done"]
    assert process.returncode == -signal.SIGKILL
    assert 0 < done < len(x)
    with pytest.raises(ValueError, match=f"is not complete: it has {done} examples"):
        FeatureStore(tmp_path / "killed")

    recorded = x.view(Recorded)
    model = keras.saving.load_model(tmp_path / "model.keras")
    extract(model, recorded, tmp_path / "killed")

    assert recorded.taken[0][0] == done
    assert recorded.taken[-1][1] == len(x)
    extract(model, x, tmp_path / "straight")
    assert same_files(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.slow
def test_processes_write_the_shards_of_one_store(start, tmp_path):
    x = images(203)
    odd = start(x, tmp_path / "parts", [[i, 8] for i in (1, 3, 5, 7)])
    even = start(x, tmp_path / "parts", [[i, 8] for i in (8, 6, 4, 2)])
    finish(odd)
    finish(even)

    store = FeatureStore(tmp_path / "parts")

    assert store.examples == 203
    whole = extract(convnet(), x, tmp_path / "whole")
    assert (store.model, store.data) == (whole.model, whole.data)
    for name, values in columns_of(whole).items():
        np.testing.assert_allclose(store.read(name), values, **CLOSE)


@pytest.mark.slow
def test_mirrored_replicas(start, tmp_path):
    x = images(75)  # two batches of 32, which replicas divide, and a partial one
    finish(start(x, tmp_path / "mirrored", devices=2))

    store = FeatureStore(tmp_path / "mirrored")

    for name, values in columns_of(extract(convnet(), x, tmp_path / "whole")).items():
        np.testing.assert_allclose(store.read(name), values, **CLOSE)
