import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from bin.jobs.gsn import training
from thesis_tf import corruption, gsn

VECTORS = np.random.default_rng(1).uniform(size=(60, 3)).astype(np.float32)


def weights(run):
    return [variable.numpy() for variable in run.model.trainable_variables]


def assert_same(run, other):
    for a, b in zip(weights(run), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def names(folder):
    return {path.name for path in folder.iterdir()}


def scalars(folder):
    """Returns {tag: {step: value}} of TensorBoard's files, read by TensorFlow."""
    found = {}
    for path in folder.glob("*.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if array.ndim == 0 and array.dtype.kind == "f":
                    found.setdefault(value.tag, {})[event.step] = float(array)
    return found


def test_networks_are_those_of_the_config(make_run, tmp_path):
    deep = make_run(tmp_path / "a", hidden_noise=0.5, initial_hidden="2").model
    assert type(deep) is gsn.GSN
    assert (deep.layer_sizes, deep.noise, deep.initial_hidden) == ([6, 5], (0.5, 0.5), 2)
    assert sum(w.size for w in deep.get_weights()) == 20 * 6 + 6 * 5 + 20 + 6 + 5
    dae = make_run(tmp_path / "b", network="dae", layers=(7,), walkback_steps=(2, 6)).model
    assert type(dae) is gsn.WalkbackAutoEncoder
    assert dae.count_params() == 2 * 20 * 7 + 20 + 7
    assert dae.walkback == gsn.Walkback((2, 6))
    images = np.zeros((60, 4, 6, 1), np.float32)
    convolutional = make_run(tmp_path / "c", images, network="conv_dae", layers=(2, 3)).model
    assert convolutional.network.count_params() == sum(
        9 * below * above + above for below, above in [(1, 2), (2, 3), (3, 2), (2, 1)]
    )
    stored = make_run(
        tmp_path / "d",
        initial_hidden="stored",
        scaling=True,
        walkback_steps=(4,),
        walkback_stop=0.5,
    )
    assert (stored.model.num_remembered, stored.model.scaling) == (36, True)
    assert stored.model.walkback == gsn.Walkback(4, stop=0.5)
    assert stored.model.seed == 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", None),
        ("masking", corruption.Masking(0.3)),
        ("gaussian", corruption.Gaussian(0.3)),
        ("block", corruption.Block(1, 2, value=0.0)),  # of images of 4 x 5 pixels, rounded
    ],
)
def test_corruptions(make_run, tmp_path, kind, expected):
    assert make_run(tmp_path / "run", corruption=kind).model.corruption == expected


def test_salt_and_pepper_are_the_extremes_of_training_examples(make_run, tmp_path):
    x = 0.5 + VECTORS / 4
    found = make_run(tmp_path / "run", x).model.corruption
    assert found == corruption.SaltAndPepper(0.3, low=float(x[:36].min()), high=float(x[:36].max()))
    with pytest.raises(ValueError, match=r"--corruption=block is for images. Received: .*\(3,\)"):
        make_run(tmp_path / "run", x, corruption="block")


@pytest.mark.parametrize(
    ("outputs", "scale", "expected"),
    [
        ("bernoulli", None, gsn.Bernoulli()),
        ("normal", None, gsn.Normal()),
        ("normal", 0.2, gsn.Normal(0.2)),
        ("normal_mixture", None, gsn.NormalMixture(2)),
    ],
)
def test_reconstructions(make_run, tmp_path, outputs, scale, expected):
    run = make_run(tmp_path / "run", outputs=outputs, output_scale=scale)
    assert run.model.reconstruction == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 4), True), ((4, 4, 1), True), ((4, 4, 3), True), ((4, 4, 2), False), ((3,), False)],
)
def test_what_can_be_drawn(make_run, tmp_path, shape, expected):
    run = make_run(tmp_path / "run", np.zeros((60, *shape), np.float32))
    assert run.shape == (shape if len(shape) != 2 else (*shape, 1))  # gray images
    assert run.is_image is expected


def test_binarized_data(make_run, tmp_path):
    run = make_run(tmp_path / "run", VECTORS, binarize=True)
    np.testing.assert_array_equal(run.splits.test.x, np.round(VECTORS[48:]))
    assert run.splits.test.x.dtype == np.float32


def test_data_that_the_outputs_cannot_have(make_run, tmp_path):
    beyond = VECTORS.copy()
    beyond[-1] = 2  # only in the test examples
    with pytest.raises(ValueError, match=r"in \[0, 1\].* use --outputs=normal"):
        make_run(tmp_path / "run", beyond)
    make_run(tmp_path / "run", beyond, outputs="normal", corruption="gaussian")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_longer_run_goes_on_and_what_it_wrote_is_read(make_run, tmp_path):
    settings = {"x": VECTORS, "initial_hidden": "stored"}
    whole = make_run(tmp_path / "whole", epochs=2, **settings)
    whole.train()
    assert (abs(whole.model._stored[0].numpy()).max(axis=1) > 0).all()  # for all examples
    make_run(tmp_path / "half", epochs=1, **settings).train()
    going_on = make_run(tmp_path / "half", epochs=2, **settings)
    logs = going_on.train()
    assert {"loss", "val_loss"} <= logs.keys()
    assert all(map(math.isfinite, logs.values()))
    assert_same(going_on, whole)
    # Two epochs of 4 steps; each epoch halves the learning rate.
    assert float(whole.model.optimizer.learning_rate) == pytest.approx(1e-3 / 4)
    read = make_run(tmp_path / "half", epochs=2, **settings)
    read.load()
    assert_same(read, whole)
    with pytest.raises(ValueError, match=r"doesn't have the network of .*config.json"):
        make_run(tmp_path / "half", VECTORS, layers=(6, 4), initial_hidden="stored").load()
    path = tmp_path / "half" / "model.keras"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a Keras model, or is incomplete"):
        read.load()
    path.unlink()
    with pytest.raises(ValueError, match="doesn't exist: use --do=train first"):
        read.load()


@pytest.mark.slow
def test_sheets_and_scaling_factors(make_run, tmp_path):
    run = make_run(tmp_path / "run", epochs=3, scaling=True)
    run.train(sheet_every=2)
    assert names(run.folder / "sheets") == {"epoch_0002.png", "epoch_0003.png"}
    found = scalars(run.folder / "logs")
    assert found["scaling/alpha_1"] == {4: 1.0, 8: 1.0, 12: 1.0}
    assert found["scaling/alpha_2"][12] == pytest.approx(float(run.model.alphas[1]))
    saved = keras.saving.load_model(run.folder / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(saved.alphas, run.model.alphas)


def test_lines_are_said_only_if_asked(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "run", VECTORS)
    run.say("silent")
    loud = training.NetworkRun(run.config, run.folder, run.strategy, verbose=2)
    loud.say("said")
    assert capsys.readouterr().out == "said\n"
