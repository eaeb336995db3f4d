"""Contents of files and data; and program x input: what changed is refused in every program."""

import dataclasses
import importlib
import json
import shutil
import time
import zipfile

import keras
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from bin.common import contents, ends, runs
from bin.common.flags import option
from thesis_tf import datasets
from thesis_tf.persistence import locks


@dataclasses.dataclass(frozen=True)
class Inner:
    weights: str = option("none", "", is_path=True)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...] = ()
    checkpoints: tuple[str, ...] = option((), "", is_path=True)
    labels: str | None = option(None, "", is_path=True)
    other: str = option("a.npz", "")


def test_all_files_that_flags_name_are_hashed(tmp_path):
    a, b, c = (str(tmp_path / name) for name in ("a.h5", "b.h5", "c.h5"))
    for number, path in enumerate((a, b, c)):
        with open(path, "w") as file:
            file.write(str(number))
    config = Outer((Inner("imagenet"), Inner(a)), checkpoints=(b, c))
    found = contents.of_flags(config)
    assert set(found) == {f"--weights={a}", f"--checkpoints={b}", f"--checkpoints={c}"}
    assert len(set(found.values())) == 3
    assert not contents.of_flags(Outer(labels=str(tmp_path)))  # no file
    assert not contents.of_flags(Outer(labels=str(tmp_path / "none.npz")))


def save_npz(path, again=False):
    (np.savez_compressed if again else np.savez)(path, x=np.arange(5))


def save_model(path, again=False):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)


@pytest.mark.parametrize(("name", "save"), [("a.npz", save_npz), ("a.keras", save_model)])
def test_an_archive_is_what_its_members_hold(tmp_path, name, save):
    path = tmp_path / name
    save(path)
    first, raw = contents.of_file(path), path.read_bytes()
    save(path, again=True)  # compressed, or with other addresses in memory
    assert path.read_bytes() != raw
    assert contents.of_file(path) == first
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", "x")
    assert contents.of_file(path) != first


def test_a_damaged_archive_is_its_bytes(tmp_path):
    """What reads it says that it is damaged; some of the flips damage only its compressed data."""
    path, array = tmp_path / "a.npz", np.random.default_rng(0).integers(0, 9, (30, 30))
    np.savez_compressed(path, array)
    whole, raw = contents.of_file(path), path.read_bytes()
    for place in range(100, len(raw) - 200, 50):  # in the data of its only member
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        assert contents.of_file(path) != whole, place


@pytest.mark.parametrize("name", ["a.h5", "cut.npz"])
def test_every_byte_of_another_file_counts(tmp_path, name):
    path = tmp_path / name
    np.savez(path.with_suffix(".npz"), x=np.arange(1000))
    whole = path.with_suffix(".npz").read_bytes()
    data = whole[:700] if name.startswith("cut") else b"abc" * 10
    path.write_bytes(data)
    first = contents.of_file(path)
    path.write_bytes(data[:-1] + b"!")
    assert contents.of_file(path) != first


def change(splits, what):
    """Returns `Splits` with another value of one kind."""
    x, y = splits.test.x.copy(), splits.test.y.copy()
    test, names = splits.test, splits.class_names
    if what == "a pixel":
        x[3, 0, 0, 0] += 1
        test = dataclasses.replace(test, x=x)
    elif what == "a label":
        y[3] = (y[3] + 1) % 10
        test = dataclasses.replace(test, y=y)
    elif what == "the order":
        test = dataclasses.replace(test, x=x[::-1], y=y[::-1])
    elif what == "one less":
        test = dataclasses.replace(test, x=x[1:], y=y[1:])
    elif what == "the dtype":
        test = dataclasses.replace(test, x=x.astype("float32"))
    elif what == "a name of a class":
        names = ("zero", *names[1:])
    elif what == "the split":
        return dataclasses.replace(splits, test=splits.validation, validation=splits.test)
    return dataclasses.replace(splits, test=test, class_names=names)


@pytest.mark.parametrize(
    "what",
    ["a pixel", "a label", "the order", "one less", "the dtype", "a name of a class", "the split"],
)
def test_data_are_their_examples_labels_and_names(what):
    splits = datasets.load("mnist_mini").take(train=20, validation=10, test=10)
    assert contents.of_splits(change(splits, "nothing")) == contents.of_splits(splits)
    assert contents.of_splits(change(splits, what)) != contents.of_splits(splits)


FLAGS = absl_flags.FLAGS
SMALL_CHAINS = ("--chains=2", "--chain_steps=2")


class BegunError(BaseException):
    """Ends a program when its run has begun."""


def network(outputs=3, scale=0.0, shape=(4, 4, 1)):
    keras.backend.clear_session()  # so that names are the same
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    hidden = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(outputs)(hidden))
    model.set_weights([w + scale for w in model.get_weights()])
    return model


def save_arrays(path, change=0):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(90, 4, 4, 1)).astype(np.float32)
    y = np.arange(90) % 3
    x[7, 0, 0, 0] += 0.1 * change
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])


def save_labels(path, change=0):
    labels = np.arange(90) % 2
    labels[3] ^= change
    np.savez(path, bright_train=labels[:60], bright_test=labels[60:])


def save_network(path, change=0):
    network(scale=1e-3 * change).save(path)


def save_weights(path, change=0):
    keras.utils.set_random_seed(change)
    import models

    models.build("mlp", (4, 4, 1), 3).save_weights(path)


def save_reconstruction(path, change=0):
    network(outputs=16, scale=1e-3 * change).save(path)


WRITERS = {
    "data.npz": save_arrays,
    "labels.npz": save_labels,
    "net.keras": save_network,
    "step_1.weights.h5": save_weights,
    "step_2.weights.h5": save_weights,
    "r.keras": save_reconstruction,
}
DATA = "--dataset={data.npz}"
NET = "--model={net.keras}"
WEIGHTS = "--weights={step_1.weights.h5}"
SMALL = (DATA, NET, "--batch_size=8")
BOTH = {"data.npz": "data set", "net.keras": "model"}
# {case: (program, its flags, {a file that they name: what is another})}.
CASES = {
    "train": ("train", SMALL, BOTH),
    "train a network by name": (
        "train", (DATA, "--model=mlp", WEIGHTS, "--batch_size=8"),
        {"step_1.weights.h5": "file of weights"},
    ),
    "probe": (
        "probe", (DATA, NET, "--labels={labels.npz}"),
        {"data.npz": "data set", "net.keras": "model", "labels.npz": "file of labels"},
    ),
    "probe checkpoints": (
        "probe", (DATA, "--model=mlp", "--weights={step_1.weights.h5},{step_2.weights.h5}"),
        {"step_1.weights.h5": "file of weights", "step_2.weights.h5": "file of weights"},
    ),
    "hessian": (
        "hessian", (DATA, NET, "--largest=2", "--smallest=1"), BOTH,
    ),
    "hessian of checkpoints": (
        "hessian", (DATA, "--model=mlp", "--checkpoints={step_1.weights.h5},{step_2.weights.h5}"),
        {"step_2.weights.h5": "file of weights"},
    ),
    "dae": (
        "dae", (DATA, "--reconstruction={r.keras}", "--sigma=.1", *SMALL_CHAINS),
        {"data.npz": "data set", "r.keras": "model"},
    ),
    "gsn": (
        "gsn", (DATA, "--layers=4", "--epochs=1", "--batch_size=8", *SMALL_CHAINS),
        {"data.npz": "data set"},
    ),
    "issgd_master": (
        "issgd_master", (*SMALL, "--mode=uniform", "--checkpoint_every=1", "--steps=100000"),
        BOTH,
    ),
    "issgd_peer": (
        "issgd_peer", (*SMALL, "--peer_name=a", "--store=shm://inputs-test"), BOTH,
    ),
    "issgd_compare": ("issgd_compare", SMALL, BOTH),
    "dae_theory": ("dae_theory", (), {}),
    "gsn_theory": ("gsn_theory", (), {}),
    "reproduce": ("reproduce", ("--figures=3.4",), {}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def stop_when_begun(monkeypatch):
    """Lets every program end when its run has begun."""

    def and_end(function):
        def begin(*args, **kwargs):
            function(*args, **kwargs)
            raise BegunError

        return begin

    for name in ("begin", "resume"):
        monkeypatch.setattr(runs, name, and_end(getattr(runs, name)))
    monkeypatch.setattr(runs, "_BEGUN", {})
    monkeypatch.setattr(runs, "_LOCKS", {})
    yield
    for file in runs._LOCKS.values():
        file.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with all input files, and in its folder `changed` all of them changed."""
    folder = tmp_path_factory.mktemp("inputs")
    for number, place in enumerate((folder, folder / "changed")):
        place.mkdir(exist_ok=True)
        for name, write in WRITERS.items():
            write(place / name, number)
    return folder


@pytest.fixture
def inputs(written, tmp_path):
    """Another folder with copies of these."""
    return shutil.copytree(written, tmp_path / "inputs")


@pytest.fixture
def start(inputs, tmp_path, capsys, start_any_program):
    """Returns a function that starts a program in this process until its run begins.

    It returns None, or (the status, the message) with which the program ended before.
    """

    def start(program, *given, output=tmp_path / "out"):
        given = [*given, f"--output_dir={output}"]
        for name in WRITERS:
            given = [flag.replace(f"{{{name}}}", str(inputs / name)) for flag in given]
        if program == "issgd_master":  # its --mode is another than that of bin.probe
            return until_begun(start_any_program(program, *given), tmp_path / "out")
        module = importlib.import_module(f"bin.{program}")
        capsys.readouterr()
        runs._BEGUN.clear()
        with flagsaver.flagsaver():
            FLAGS([program, *given])
            try:
                module.main([program])
            except BegunError:
                return None
            except SystemExit as ended:
                return ended.code, capsys.readouterr().err
        raise AssertionError("The program has ended without a run.")

    return start


def until_begun(program, folder):
    """Kills a program when it has begun; returns None, or (its status, its output) if it ended."""
    while program.status is None and not (folder / "checkpoint.npz").exists():
        time.sleep(0.02)
    if program.status is not None:
        return program.status, program.said
    program.kill()
    (folder / "checkpoint.npz").unlink()
    return None


def cases(chosen):
    # A process of its own takes seconds to start.
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name == "issgd_master" else [])
        for name in CASES
        if chosen(name)
    ]


@pytest.mark.parametrize("case", cases(lambda name: CASES[name][2]))
def test_a_changed_input_is_refused(case, start, inputs, tmp_path):
    program, given, named = CASES[case]
    assert start(program, *given) is None
    recorded = (tmp_path / "out/config.json").read_text()
    for name, noun in named.items():
        shutil.copy(inputs / "changed" / name, inputs / name)
        status, message = start(program, *given)
        WRITERS[name](inputs / name)
        assert status == ends.WRONG_USE
        assert f"the {noun} is another than when this run was made (--" in message
        assert name in message
        assert "Choose another folder, or use --overwrite" in message
    # The same contents, saved again, are the same input.
    assert start(program, *given) is None
    assert (tmp_path / "out/config.json").read_text() == recorded


@pytest.mark.parametrize("case", ["train", "dae"])
def test_overwriting_begins_anew(case, start, inputs, tmp_path):
    program, given, _ = CASES[case]
    assert start(program, *given) is None
    (tmp_path / "out/result").touch()
    shutil.copy(inputs / "changed/data.npz", inputs / "data.npz")
    assert start(program, *given, "--overwrite") is None
    assert not (tmp_path / "out/result").exists()
    assert start(program, *given) is None


def test_more_jobs_of_a_trained_network_take_its_data(start, inputs, tmp_path):
    assert start(*CASES["gsn"][:1], *CASES["gsn"][1]) is None
    config = json.loads((tmp_path / "out/config.json").read_text())
    gsn = importlib.import_module("bin.gsn")
    from bin.jobs.gsn import training
    from thesis_tf import hardware

    made = gsn.trained_config(tmp_path / "out")
    network = training.NetworkRun(made, tmp_path / "out", hardware.configure(made.hardware))
    network.model.save(tmp_path / "out/model.keras")
    assert "inputs" in config
    sample = ("--do=sample", *SMALL_CHAINS)
    assert start("gsn", *sample) is None
    shutil.copy(inputs / "changed/data.npz", inputs / "data.npz")
    status, message = start("gsn", *sample)
    assert status == ends.WRONG_USE
    assert "the data set is another than when this run was made (--dataset=" in message


@pytest.mark.parametrize("case", cases(lambda name: True))
def test_a_second_run_at_a_time_is_refused(case, start, tmp_path):
    program, given, _ = CASES[case]
    (tmp_path / "out").mkdir()
    other = locks.acquire(tmp_path / "out" / runs.LOCK, wait=False)
    for more in ((), ("--overwrite",)):
        status, message = start(program, *given, *more)
        assert status == ends.WRONG_USE
        assert "is in use: another process runs in it. Wait until it ends" in message
    assert not (tmp_path / "out/config.json").exists()
    other.close()
    assert start(program, *given) is None


@pytest.mark.parametrize("case", ["train", "dae", "dae_theory"])
def test_overwriting_cannot_pull_the_folder_from_under_a_run(case, start, tmp_path):
    program, given, _ = CASES[case]
    assert start(program, *given) is None
    for file in runs._LOCKS.values():
        file.close()
    runs._LOCKS.clear()
    other = locks.acquire(tmp_path / "out" / runs.LOCK, wait=False)
    (tmp_path / "out/result").touch()
    status, message = start(program, *given, "--seed=1", "--overwrite")
    assert (status, "is in use" in message) == (ends.WRONG_USE, True)
    assert (tmp_path / "out/result").exists()
    other.close()


@pytest.mark.parametrize("case", [name for name in CASES if name != "issgd_master"])
def test_an_empty_path_is_refused(case, start):
    program, given, _ = CASES[case]
    with pytest.raises(absl_flags.IllegalFlagValueError, match=r"output_dir.*must be a path"):
        start(program, *given, output="")
