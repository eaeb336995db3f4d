import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import probes

OPTIMIZED_GRAPHS = True

SPLITS = (60, 20, 20)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Returns a nested model with a shared layer and ops, and a report on two label sets."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((6, 6, 1), name="image")
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.ReLU(name="act")], name="inner")
    shared = layers.Dense(12, name="shared")
    x = shared(layers.Flatten(name="flat")(inner(inputs)))
    x = shared(layers.Dense(64, name="wide")(keras.ops.tanh(layers.Dense(64)(x))))
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 6, 6, 1)).astype("float32"), rng.integers(0, 3, 100)
    folder = tmp_path_factory.mktemp("probed")
    store = probes.extract(
        model,
        x,
        folder / "store",
        taps=["input", "inner/act", "shared#2"],
        reduction="subset:20",
        seed=3,
    )
    report = probes.fit_probes(store, {"class": y, "odd": y % 2}, SPLITS, l2=[0.1])
    return model, report, store, x, folder


def test_saved_model_answers_as_the_model_the_store_and_the_probes_do(probed):
    model, report, store, x, folder = probed
    probes.export(model, report, folder / "saved")
    loaded = tf.saved_model.load(str(folder / "saved"))
    assert set(loaded.signatures) == {"serve", "probes", "features", "serving_default"}
    served = loaded.signatures["serving_default"](inputs=tf.constant(x))
    np.testing.assert_allclose(served["output"], model(x), atol=1e-6)
    features = loaded.signatures["features"](inputs=tf.constant(x))
    logits = loaded.signatures["probes"](inputs=tf.constant(x))
    assert len(logits) == 6
    for probe in report.probes:
        name = probe.tap.name
        np.testing.assert_allclose(features[name], store.read(name), atol=1e-6)
        expected = store.read(name) @ probe.solution.weights + probe.solution.bias
        np.testing.assert_allclose(logits[f"{name} [{probe.labels}]"], expected, atol=1e-5)


@pytest.mark.slow
def test_saved_model_loads_where_keras_and_this_library_are_not_imported(probed):
    model, report, _, _, folder = probed
    probes.export(model, report, folder / "plain")
    code = (
        "import sys, json, tensorflow as tf\n"
        f"m = tf.saved_model.load({str(folder / 'plain')!r})\n"
        "shapes = {}\n"
        "for n in (1, 5):\n"
        "    out = m.signatures['probes'](inputs=tf.zeros((n, 6, 6, 1)))\n"
        "    shapes[n] = [v.shape[0] for v in out.values()]\n"
        "print(json.dumps([shapes, 'thesis_tf' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shapes, imported = json.loads(done.stdout.splitlines()[-1])
    assert shapes == {"1": [1] * 6, "5": [5] * 6}
    assert not imported


def test_probes_alone(probed):
    _, report, store, _, folder = probed
    probes.export_probes(report, folder / "alone")
    signature = tf.saved_model.load(str(folder / "alone")).signatures["probes"]
    arguments = {"input": "input", "inner_act": "inner/act", "shared_2": "shared#2"}
    assert set(signature.structured_input_signature[1]) == set(arguments)
    logits = signature(**{a: tf.constant(store.read(name)) for a, name in arguments.items()})
    probe = report.probe("shared#2", labels="odd")
    expected = store.read("shared#2") @ probe.solution.weights + probe.solution.bias
    np.testing.assert_allclose(logits["shared#2 [odd]"], expected, atol=1e-5)


def test_export_of_another_model_is_an_error_and_keeps_what_was_there(probed):
    model, report, _, _, folder = probed
    probes.export(model, report, folder / "kept")
    layers = keras.layers
    other = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(ValueError, match="No tap of model"):
        probes.export(other, report, folder / "kept")
    assert "probes" in tf.saved_model.load(str(folder / "kept")).signatures
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_export_does_not_change_the_model(probed):
    model, report, _, x, folder = probed
    before = model(x).numpy()
    probes.export(model, report, folder / "again")
    np.testing.assert_array_equal(model(x).numpy(), before)


@pytest.mark.slow
def test_only_a_saved_model_is_replaced(probed, tmp_path):
    model, report, *_ = probed
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for write in (
        lambda path: probes.export(model, report, path),
        lambda path: probes.export_probes(report, path),
    ):
        for path in (tmp_path, tmp_path / "thesis.tex"):
            with pytest.raises(FileExistsError, match="a new or empty folder, or a SavedModel"):
                write(path)
        for _ in range(2):
            write(tmp_path / "saved")
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


class TwoInputs(keras.Model):
    """A subclassed model of two inputs, which is not built."""

    def __init__(self):
        super().__init__(name="two")
        self.left, self.right = keras.layers.Dense(3), keras.layers.Dense(3, name="right")

    def call(self, inputs):
        return self.left(inputs["a"]) * self.right(inputs["b"])


def test_a_subclassed_model_of_several_inputs_from_extraction_to_export(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"a": (100, 4), "b": (100, 2)}
    x = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    model = TwoInputs()
    store = probes.extract(model, x, tmp_path / "store", taps=["right", "output"])
    report = probes.fit_probes(store, rng.integers(0, 3, 100), SPLITS, l2=[0.1])
    with pytest.raises(ValueError, match=r"inputs of model 'two' is unknown.*inputs=x\[:1\]"):
        probes.export(model, report, tmp_path / "saved")
    specs = {name: tf.TensorSpec((None, *shape[1:])) for name, shape in shapes.items()}
    for inputs in (x, specs):
        probes.export(model, report, tmp_path / "saved", inputs=inputs)
        signatures = tf.saved_model.load(str(tmp_path / "saved")).signatures
        tensors = {name: tf.constant(value) for name, value in x.items()}
        np.testing.assert_allclose(signatures["serve"](**tensors)["output"], model(x), atol=1e-6)
        features = signatures["features"](**tensors)
        np.testing.assert_allclose(features["right"], model.right(x["b"]), atol=1e-6)
