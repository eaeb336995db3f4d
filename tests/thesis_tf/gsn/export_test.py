import keras
import numpy as np
import pytest
import tensorflow as tf

from models.gsn import walkback_dae
from thesis_tf import gsn
from thesis_tf.gsn import GSN

X = np.random.default_rng(0).integers(0, 2, (6, 4, 4, 1)).astype(np.float32)
SEED = np.array([3, 4], np.int32)


def trained(kind):
    model = GSN([5, 4, 3, 2], noise=0.5) if kind == "gsn" else walkback_dae((4, 4, 1), units=5)
    model.compile("adam")
    model.fit(X, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gsn", "dae"])
def test_signatures_are_the_chain(kind, tmp_path):
    model = trained(kind)
    gsn.export(model, tmp_path / "m")
    served = tf.saved_model.load(str(tmp_path / "m")).signatures
    assert ("start" in served) == (kind == "gsn")
    hidden = served["start"](x=tf.constant(X)) if kind == "gsn" else {}
    state, kernel = model.initial_state(X), model.transition_kernel()
    x = tf.constant(X)
    for number in range(3):
        seed = SEED + number
        found = served["step"](x=x, seed=tf.constant(seed), **hidden)
        state = kernel.step(state, tf.constant(seed))
        np.testing.assert_array_equal(found["x"], state.x)
        np.testing.assert_allclose(found["mean"], kernel.mean(state), atol=1e-6)
        x = found["x"]
        hidden = {name: value for name, value in found.items() if name.startswith("hidden")}
    assert len(hidden) == (2 if kind == "gsn" else 0)


@pytest.mark.slow
def test_inpainting_holds_what_is_known(tmp_path):
    model = trained("gsn")
    gsn.export(model, tmp_path / "m")
    served = tf.saved_model.load(str(tmp_path / "m")).signatures
    mask = np.zeros(X.shape, bool)
    mask[:, :, :2] = True
    arguments = {"x": tf.constant(X), "mask": tf.constant(mask), "steps": tf.constant(5)}
    found = served["inpaint"](**arguments, seed=tf.constant(SEED))
    for name in ("x", "mean"):
        assert found[name].numpy()[mask].tobytes() == X[mask].tobytes()
    again = served["serving_default"](**arguments, seed=tf.constant(SEED))
    np.testing.assert_array_equal(found["x"], again["x"])
    other = served["inpaint"](**arguments, seed=tf.constant(SEED + 1))
    assert (other["mean"].numpy() != found["mean"].numpy()).any()
    none = served["inpaint"](**{**arguments, "steps": tf.constant(0)}, seed=tf.constant(SEED))
    np.testing.assert_array_equal(none["x"], X)


@pytest.mark.slow
def test_it_needs_no_library(tmp_path, run_python):
    gsn.export(trained("dae"), tmp_path / "m")
    script = """
        import json, sys
        import tensorflow as tf
        step = tf.saved_model.load(sys.argv[1]).signatures["step"]
        x = step(x=tf.zeros((2, 4, 4, 1)), seed=tf.constant([0, 1]))["x"]
        assert not {"thesis_tf", "models"} & set(sys.modules)
        print(json.dumps(list(x.shape)))
    """
    assert run_python(script, tmp_path / "m") == [2, 4, 4, 1]


def test_bad_input(tmp_path):
    with pytest.raises(TypeError, match="`model` must be a GenerativeStochasticNetwork"):
        gsn.export(keras.Sequential(), tmp_path / "m")
    with pytest.raises(ValueError, match="Fit it, or call it on x"):
        gsn.export(GSN([3]), tmp_path / "m")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.pdf").write_text("mine")
    with pytest.raises(FileExistsError, match="a new or empty folder, or a SavedModel"):
        gsn.export(trained("dae"), tmp_path / "other")
    assert (tmp_path / "other" / "thesis.pdf").read_text() == "mine"
