import functools
import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from bin import train

SMALL = [
    "--examples=256,64,64",
    "--model=mlp",
    "--batch_size=32",
    "--epochs=3",
    # If a gradient is nearly 0, Adam would turn rounding errors into steps of full size.
    "--optimizer=sgd",
    "--learning_rate=0.1",
]


@pytest.fixture(scope="module")
def start(start_any_program):
    """Returns a function that starts `bin.train` with few examples, and more flags."""
    return functools.partial(start_any_program, "train", *SMALL)


def weights(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


def assert_same(a, b, **tolerance):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0, **tolerance})


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "whole"
    start(f"--output_dir={folder}").finish()
    return folder


@pytest.mark.slow
def test_writes_what_it_says(whole):
    assert {"config.json", "checkpoint.npz", "logs", "model.keras", "metrics.json"} <= set(
        os.listdir(whole)
    )
    assert json.loads((whole / "metrics.json").read_text())["accuracy"] > 0.5


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(start, whole, tmp_path):
    arguments = [f"--output_dir={tmp_path / 'killed'}", "--checkpoint_every=1", "--epochs=40"]
    checkpoint = tmp_path / "killed" / "checkpoint.npz"
    program = start(*arguments)
    program.until(checkpoint.exists)
    program.kill()
    assert not (tmp_path / "killed" / "model.keras").exists()
    start(*arguments).finish()
    start(f"--output_dir={tmp_path / 'whole'}", "--epochs=40", "--checkpoint_every=1").finish()
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_mirrored_on_two_virtual_devices(start, whole, tmp_path):
    start(f"--output_dir={tmp_path}", "--distribution=mirrored", "--num_virtual_devices=2").finish()
    # Sums over a batch are computed in another order.
    assert_same(weights(tmp_path), weights(whole), atol=1e-5)


@pytest.mark.slow
def test_two_workers_on_loopback(start, whole, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        start(
            f"--output_dir={tmp_path / 'shared'}",
            "--distribution=multi_worker",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    for worker in workers:
        worker.finish()
    assert_same(weights(tmp_path / "shared"), weights(whole), atol=1e-5)


def test_help_and_wrong_flags_answer_without_tensorflow():
    code = (
        "import sys, bin.train, bin.probe\n"
        "heavy = [m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules]\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "bin.train", "--help"], capture_output=True, text=True
    ).stdout
    for flag in ("--model", "--dataset", "--output_dir", "--distribution", "--snapshots"):
        assert f"  {flag}" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=mpl"], "The nearest are: mlp"),
        (["--dataset=mnist_min"], "The nearest are: mnist_mini"),
        (["--examples=1,2"], "three positive numbers"),
        (
            ["--weights=nowhere.weights.h5"],
            "error: --weights must be none or an existing file. Received: nowhere.weights.h5",
        ),
        (["--distribution=tpu"], "--distribution=tpu needs a TPU's name or address"),
        (["--model=inception_v3", "--image_size=32"], "at least 75"),
        (["--batch_size=1000"], "error: --batch_size must be at most the 256 training examples"),
    ],
)
def test_bad_flags_are_one_line(start, tmp_path, arguments, message):
    program = start(*arguments, f"--output_dir={tmp_path / 'x'}")
    assert program.wait() != 0
    assert message in program.said
    assert "Traceback" not in program.said


def test_training_that_diverges_is_an_error(tmp_path):
    values = {"model": "mlp", "examples": ["256", "64", "64"], "learning_rate": 1e30, "epochs": 1}
    with flagsaver.flagsaver(**values, optimizer="sgd"):
        config = train.config_from_flags()
    with pytest.raises(ValueError, match=r"is nan: training has diverged.*lower --learning_rate"):
        train.run(config, tmp_path)
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.slow
def test_a_guess_ends_with_a_warning_also_when_it_is_shown_again(tmp_path, capsys):
    # A network that hardly learns, on three classes of noise.
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(300, 4, 4, 1)).astype(np.float32), np.arange(300) % 3
    np.savez(tmp_path / "n.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    out = tmp_path / "out"
    values = {"dataset": str(tmp_path / "n.npz"), "model": "mlp", "epochs": 1, "batch_size": 50}
    seen = []
    for _ in range(2):
        given = flagsaver.flagsaver(**values, learning_rate=1e-6, output_dir=str(out))
        with given, pytest.raises(SystemExit) as ended:
            train.main(["train"])
        said = capsys.readouterr().out.splitlines()
        names = ("metrics.json", "outcome.json", "model.weights.h5")
        seen.append((ended.value.code, said[-1], [(out / name).read_bytes() for name in names]))
    assert seen[0] == seen[1]
    assert seen[0][0] == 3
    assert seen[0][1].startswith("warning: The network is no better than a guess: accuracy 0.")
    assert json.loads((out / "outcome.json").read_text())["warnings"] == [seen[0][1][9:]]
    assert any(line.startswith("This run was finished on ") for line in said)


def test_config_from_flags():
    with flagsaver.flagsaver(
        model="resnet50", weights=["w.h5"], image_size=64, seed=3, snapshots=["1", "20"]
    ):
        config = train.config_from_flags()
    assert config.model.image_size == 64
    assert config.hardware.seed == config.data.seed == 3
    assert config.training.snapshots == (1, 20)
    assert config.training.epochs == 5
