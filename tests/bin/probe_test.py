import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

import models
from bin import probe
from bin.common import runs
from bin.common.configs import Data, Hardware, Model, Training
from bin.jobs import probe as probe_job

TAPS = ("input", "fc1_relu", "logits")


def config(**changes):
    """Returns the config of a run of at most half a minute on the bundled data."""
    fields = {
        "data": Data("mnist_mini", None, (300, 100, 100), 0),
        "models": (Model("mlp", "none", None, "default", False),),
        "hardware": Hardware(),
        "training": Training(epochs=2, batch_size=50),
        "taps": TAPS,
        "reduction": "subset:100",
        "mask": "auto",
        "mode": "frozen",
        "labels": None,
        "control": False,
        "export": True,
        "suboptimality": 1e-2,
    }
    return probe.Config(**{**fields, **changes})


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    return folder, probe.run(config(), folder)


@pytest.mark.slow
def test_before_and_after_training(before_and_after):
    folder, reports = before_and_after
    start, end = reports["start"], reports["end"]
    assert start.probe("input").error == pytest.approx(end.probe("input").error)
    assert end.probe("logits").error < start.probe("logits").error - 0.2
    for name in ("curve.png", "network.svg", "start/report.csv", "end/report.md", "end/probes.npz"):
        assert (folder / name).stat().st_size > 0
    output = end.model_error["class"]["output"]["test"].error
    assert output < 0.5
    signatures = tf.saved_model.load(str(folder / "saved_model")).signatures
    assert set(signatures) == {"serve", "serving_default", "probes", "features"}


@pytest.mark.slow
def test_same_run_again_computes_nothing(before_and_after):
    folder, reports = before_and_after
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/features/*/*.npy")}
    again = probe.run(config(), folder)
    assert again["end"].table(format="csv") == reports["end"].table(format="csv")
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.glob("*/features/*/*.npy")}


@pytest.mark.slow
def test_checkpoints_side_by_side(tmp_path):
    specs = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        path = tmp_path / f"step_{seed}.weights.h5"
        models.build("mlp", (28, 28, 1), 10).save_weights(path)
        specs.append(Model("mlp", str(path), None, "default", False))
    reports = probe.run(
        config(models=tuple(specs), training=Training(epochs=0), export=False), tmp_path / "run"
    )
    assert list(reports) == ["step_1", "step_2"]
    assert reports["step_1"].model != reports["step_2"].model
    text = (tmp_path / "run" / "network.svg").read_text()
    assert "step_1" in text
    assert "step_2" in text


@pytest.mark.slow
def test_a_picture_for_each_set_of_labels(before_and_after, tmp_path):
    _, reports = before_and_after
    both = {
        name: dataclasses.replace(
            report,
            probes=report.probes
            + tuple(dataclasses.replace(p, labels="is odd") for p in report.probes),
            chance={"class": 0.9, "is odd": 0.5},
        )
        for name, report in reports.items()
    }
    probe_job.draw_side_by_side(both, tmp_path)
    wanted = {f"{kind}{end}" for kind in ("curve", "network") for end in ("", "_is_odd")}
    assert {path.stem for path in tmp_path.iterdir()} == wanted


@pytest.mark.slow
def test_live(tmp_path):
    reports = probe.run(config(mode="live", training=Training(epochs=3, batch_size=50)), tmp_path)
    assert list(reports) == ["step_0000006", "step_0000012", "step_0000018"]
    assert list(tmp_path.glob("logs/events*"))
    assert (tmp_path / "step_0000018" / "report.json").exists()


@pytest.mark.slow
def test_other_labels_follow_their_examples(tmp_path):
    with np.load("thesis_tf/datasets/mnist_mini.npz", allow_pickle=False) as arrays:
        odd = {f"odd_{s}": arrays[f"y_{s}"].astype(int) % 2 for s in ("train", "test")}
    np.savez(tmp_path / "factors.npz", **odd)
    run = config(
        labels=str(tmp_path / "factors.npz"),
        training=Training(epochs=0),
        taps=("input",),
        control=True,
        export=False,
    )
    (report,) = probe.run(run, tmp_path / "run").values()
    assert report.label_names == ["class", "odd"]
    # .15 is three standard errors of a fair coin on 100 examples: the features contain the parity,
    # but not shuffled labels.
    assert report.probe("input", labels="odd").error < 0.35
    assert report.probe("input", labels="odd").control["test"].error == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_shards_are_read_as_one(tmp_path):
    run = config(training=Training(epochs=0), export=False)
    assert probe.run(run, tmp_path / "shards", shard=(2, 2)) == {}
    (sharded,) = probe.run(run, tmp_path / "shards", shard=(1, 2)).values()
    (whole,) = probe.run(run, tmp_path / "whole").values()
    assert sharded.probe("input").error == whole.probe("input").error


def test_a_wrong_checkpoint_costs_no_probing_of_those_before_it(tmp_path):
    specs = [Model("mlp", "none", None, "default", False)]
    specs.append(Model("mlp", str(tmp_path / "no.weights.h5"), None, "default", False))
    with pytest.raises(ValueError, match="an existing file"):
        probe.run(config(models=tuple(specs), training=Training(epochs=0)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": ("fc1_rleu",)}, "nearest are: fc1_relu"),
        ({"reduction": "last"}, "with a time axis"),
        ({"mask": "none"}, "--mask=none has no effect on --reduction=subset:100"),
        ({"mask": "padding", "reduction": "mean"}, "the name of an input"),
        ({"training": Training(epochs=1, batch_size=301)}, "at most the 300 training examples"),
        ({"labels": "no.npz"}, r"--labels=no.npz must be an existing .npz file"),
    ],
)
def test_nothing_is_begun_before_all_is_known_to_fit(tmp_path, change, message):
    begun = []
    with pytest.raises((ValueError, runs.UsageError), match=message):
        probe.run(config(**change), tmp_path / "run", begin=lambda: begun.append(1))
    assert not begun
    assert not (tmp_path / "run").exists()


def test_paths_from_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    with flagsaver.as_parsed(weights="~/a.weights.h5", data_dir="~/data"):
        made = probe.config_from_flags()
    assert made.models[0].weights == "/somewhere/a.weights.h5"
    assert made.data.data_dir == "/somewhere/data"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mode": "live", "epochs": "0"}, "set --epochs above 0"),
        ({"weights": "a.weights.h5,b.weights.h5", "epochs": "3"}, "--weights names several"),
        ({"shard": "1/2"}, "use --epochs=0"),
        (
            {"mode": "live", "labels": "f.npz", "epochs": "1"},
            "Leave out --labels: --mode=live doesn't support it",
        ),
        ({"distribution": "multi_worker"}, "--shard=i/n"),
        ({"mode": "live", "epochs": "1", "suboptimality": "1e-4"}, "Leave out --suboptimality"),
        ({"log_every": "7"}, "Leave out --log_every: only --mode=live uses it"),
        ({"epochs": "0", "batch_size": "3"}, "Leave out --batch_size: the network is not trained"),
    ],
)
def test_flags_that_make_no_sense_together(flags, message):
    with flagsaver.as_parsed(**flags), pytest.raises(runs.UsageError, match=message):
        probe.config_from_flags()


def test_defaults():
    made = probe.config_from_flags()
    assert made.training.epochs == probe.DEFAULT_EPOCHS
    assert made.reduction == "subset:1000"
    with flagsaver.as_parsed(model="resnet50", weights="resnet50.weights.h5"):
        assert probe.config_from_flags().training.epochs == 0


@pytest.mark.slow
def test_command_line(start_any_program, tmp_path):
    said = start_any_program(
        "probe", "--examples=200,50,50", "--model=mlp", "--epochs=1", "--batch_size=50",
        "--taps=input,logits", f"--output_dir={tmp_path / 'run'}",
    ).finish()  # fmt: skip
    assert "start" in said
    assert "the model's output" in said
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["taps"] == ["input", "logits"]
