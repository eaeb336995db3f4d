import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

import models
from bin import hessian
from bin.common import runs
from bin.common.configs import Data, Hardware, Model, Training


def config(**changes):
    """Returns the config of a run of a few seconds on the bundled data."""
    fields = {
        "data": Data("mnist_mini", None, (300, 100, 100), 0),
        "model": Model("mlp", "none", None, "default", False),
        "hardware": Hardware(),
        "training": Training(epochs=0, batch_size=50, optimizer="rmsprop"),
        "checkpoints": (),
        "train_steps": 8,
        "at_steps": (),
        "subset": 60,
        "largest": 2,
        "smallest": 1,
        "tol": 1e-2,
        "solver": "lanczos",
        "gauss_newton": False,
        "product_mode": "forward_over_reverse",
        "parameters": ("fc2", "logits"),
        "hessian_batch_size": 40,
        "memory_limit": 1,
        "line_search": True,
        "density": True,
        "density_steps": 4,
        "density_vectors": 2,
        "compare_subset": False,
        "check": True,
    }
    return hessian.Config(**{**fields, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hessian")
    return folder, hessian.run(config(), folder)


@pytest.mark.slow
def test_tables_and_figures(finished):
    folder, pairs = finished
    assert pairs.values[0] < 0 < pairs.values[-1]
    found = json.loads((folder / "eigenvalues.json").read_text())
    assert found["eigenvalues"] == pairs.values.tolist()
    assert found["parameters"] == len(pairs.vectors)
    steps = json.loads((folder / "best_steps.json").read_text())
    assert [step["eigenvalue"] for step in steps] == found["eigenvalues"]
    assert all(step["decrease"] >= 0 for step in steps)
    for name in ("spectrum.png", "line_searches.svg", "best_steps.png", "density.npz"):
        assert (folder / name).stat().st_size > 0
    trace = json.loads((folder / "trace.json").read_text())
    assert trace["standard_error"] > 0
    assert not (folder / "search").exists()


@pytest.mark.slow
def test_same_run_again_searches_nothing(finished):
    folder, pairs = finished
    stamp = (folder / "eigenpairs.npz").stat().st_mtime_ns
    again = hessian.run(dataclasses.replace(config(), density=False, line_search=False), folder)
    np.testing.assert_array_equal(again.values, pairs.values)
    assert (folder / "eigenpairs.npz").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_following_training(tmp_path, capsys):
    follow = config(at_steps=(0, 3, 8), density=False, line_search=False)
    hessian.run(follow, tmp_path)
    assert "turned" in capsys.readouterr().out
    history = json.loads((tmp_path / "history/history.json").read_text())["entries"]
    assert [entry["step"] for entry in history] == [0, 3, 8]
    assert (tmp_path / "history.png").stat().st_size > 0
    assert len((tmp_path / "history.txt").read_text().splitlines()) == 4


@pytest.mark.slow
def test_checkpoints(tmp_path):
    names = []
    for step in (0, 40):
        keras.utils.set_random_seed(step)
        names.append(str(tmp_path / f"step_{step:07d}.weights.h5"))
        models.build("mlp", (28, 28, 1), 10).save_weights(names[-1])
    begun = []
    found = hessian.run(
        config(checkpoints=tuple(names), train_steps=0),
        tmp_path / "out",
        begin=lambda data: begun.append(data),
    )
    assert (found.steps, len(begun)) == ([0, 40], 1)
    assert (tmp_path / "out/history.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["plain.weights.h5"], "must have their steps in their names"),
        (["step_1.weights.h5", "a/step_1.weights.h5"], "names step 1 twice"),
        (["step_2.weights.h5"], "A checkpoint must be a weights file of mlp"),
    ],
)
def test_bad_checkpoints_begin_nothing(tmp_path, names, message):
    (tmp_path / "a").mkdir()
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    for name in names:
        model = other if name.startswith("step_2") else models.build("mlp", (28, 28, 1), 10)
        model.save_weights(tmp_path / name)
    paths = tuple(str(tmp_path / name) for name in names)
    with pytest.raises(ValueError, match=message):
        hessian.run(config(checkpoints=paths, train_steps=0), tmp_path / "out", begin=pytest.fail)


@pytest.mark.slow
def test_gauss_newton_and_the_subset(tmp_path):
    both = config(
        gauss_newton=True,
        smallest=0,
        train_steps=0,
        density=False,
        line_search=False,
        product_mode="reverse_over_reverse",
    )
    assert hessian.run(both, tmp_path / "a").values[0] > -1e-3
    data = Data("mnist_mini", None, (60, 20, 20), 0)
    other = config(data=data, subset=0.5, compare_subset=True, density=False, line_search=False)
    hessian.run(other, tmp_path / "b")
    found = json.loads((tmp_path / "b/subset.json").read_text())
    assert len(found["largest"]["relative"]) == len(found["smallest"]["angles"]) == 10


@pytest.mark.slow
def test_what_does_not_fit_begins_nothing(tmp_path):
    for bad, message in (
        ({"largest": 10**6}, "1000001 eigenvalues are requested of a matrix of"),
        ({"subset": 300, "compare_subset": True}, "--subset is all of the 300 examples"),
    ):
        with pytest.raises(runs.UsageError, match=message):
            hessian.run(config(**bad), tmp_path / "out", begin=pytest.fail)


@pytest.mark.slow
def test_training_that_diverges(tmp_path):
    training = Training(epochs=0, batch_size=50, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(ValueError, match=r"The loss is nan after 8 steps.*--learning_rate"):
        hessian.run(config(training=training), tmp_path)


@pytest.mark.slow
def test_what_has_not_converged_is_explained(tmp_path, said_in_pictures):
    few = {"density": False, "line_search": False, "train_steps": 0}
    coarse = config(hardware=Hardware(precision="mixed_bfloat16"), tol=1e-6, **few)
    said = []
    hessian.run(coarse, tmp_path, warn=said.append)
    assert "Products in mixed_bfloat16 are too coarse; use float32" in said[0]
    (sentence,) = json.loads((tmp_path / "eigenvalues.json").read_text())["warnings"]
    assert said[0].startswith(sentence)
    assert sentence in said_in_pictures["spectrum.png"]


def flags_to_config(**values):
    with flagsaver.flagsaver(**{name: (value) for name, value in values.items()}):
        return hessian.config_from_flags()


def test_defaults_are_those_of_the_chapter():
    found = flags_to_config()
    assert (found.model.model, found.training.optimizer, found.training.batch_size) == (
        "lenet", "rmsprop", 32,
    )  # fmt: skip
    assert (found.train_steps, found.largest, found.smallest) == (50, 20, 3)
    model = models.build("lenet", (28, 28, 1), 10)
    assert model.count_params() == 3_274_634


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": ["a", "b"]}, "--weights takes only one value"),
        ({"checkpoints": ["a"], "train_steps": 5}, "a finished training"),
        (
            {"checkpoints": ["a"], "compare_subset": True},
            "Leave out --compare_subset: --checkpoints",
        ),
        ({"checkpoints": ["a"], "density": True}, "Leave out --density: --checkpoints"),
        ({"at_steps": ["60"]}, "--at_steps=60 is after the last of 50 --train_steps"),
        ({"at_steps": ["1"], "gauss_newton": True}, "take the Hessian"),
        ({"gauss_newton": True, "product_mode": "forward_accumulator"}, "support --product_mode"),
        ({"auxiliary_head": True}, "one output"),
        ({"largest": 0, "smallest": 0}, "are both 0"),
        ({"subset": 2.5}, "a fraction up to 1, or a whole number. Received: 2.5"),
    ],
)
def test_flags_that_make_no_sense(values, message):
    with pytest.raises(runs.UsageError, match=message):
        flags_to_config(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"density_steps": "20"}, "Leave out --density_steps: they require --density"),
        ({"train_steps": "0", "optimizer": "sgd"}, "Leave out --optimizer: --train_steps is 0"),
    ],
)
def test_flags_without_effect(values, message):
    with flagsaver.as_parsed(**values), pytest.raises(runs.UsageError, match=message):
        hessian.config_from_flags()


def test_help_shows_the_defaults_of_this_program():
    command = [sys.executable, "-m", "bin.hessian", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for name, default in hessian.DEFAULTS.items():
        assert f"(default: '{default}')" in shown.split(f"--{name}:")[1].split("\n  --")[0]


@pytest.mark.slow
def test_from_the_command_line(start_any_program, tmp_path):
    said = start_any_program(
        "hessian", "--model=mlp", "--examples=300,50,50", "--subset=50", "--train_steps=3",
        "--largest=1", "--smallest=1", "--tol=.1", "--parameters=fc2",
        f"--output_dir={tmp_path}/run",
    ).finish()  # fmt: skip
    assert "1 / alpha*" in said
    assert "All results are in" in said
    events = list((tmp_path / "run/logs").iterdir())
    assert events
    assert tf.io.gfile.exists(f"{tmp_path}/run/spectrum.png")
