import uuid

import numpy as np
import pytest
from absl.testing import flagsaver

from bin import issgd_worker
from bin.common import flags
from bin.jobs.issgd import config
from thesis_tf import gradient_norms
from thesis_tf._keras.objective import Objective
from thesis_tf.issgd.stores import open_store
from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.model_parameters import read_parameters, spec_of

WORKER = issgd_worker.__name__.rpartition(".")[2]
BLOCKS = {"train": 8, "validation": 2, "test": 2}


@pytest.fixture(scope="module")
def small():
    """Returns (model, data, spec) of the programs that `start_program` starts."""
    with flagsaver.flagsaver(examples=["512", "128", "128"], model="mlp", block_size=64):
        run = flags.read(config.RunSettings)
    splits = run.load()
    model, data = run.build(splits), config.pairs(splits)
    loss_name = Objective(model, config.loss_of(model)).loss_name
    return model, data, spec_of(model, loss_name, by_split(data), run.block_size)


@pytest.fixture
def run_id():
    """The id of a run in shm://, which is deleted at the end."""
    name = uuid.uuid4().hex
    yield name
    open_store(f"shm://{name}", run_id=name).delete()


def open_run(name):
    return open_store(f"shm://{name}", run_id=name)


@pytest.mark.slow
def test_measures_until_the_run_is_over(start_program, small, run_id):
    model, data, spec = small
    # The worker starts before the run exists, and takes its settings from flags.
    worker = start_program(WORKER, f"--run_id={run_id}", "--worker_name=w1")
    worker.until(lambda: "Wait until a master has created it" in worker.said)
    store = open_run(run_id)
    store.create(spec)
    store.publish(read_parameters(model), 3)
    worker.until(lambda: all((store.pull(split).versions == 3).all() for split in BLOCKS))
    assert store.alive("worker", 60) == ["w1"]
    norms = gradient_norms.per_example_gradient_norms(model, config.loss_of(model))
    _, squares = norms(*data["train"])
    np.testing.assert_allclose(store.pull("train").values, np.sqrt(squares), rtol=1e-4)

    store.finish()
    assert "w1 measured 12 blocks." in worker.finish()
    # A worker that starts after the end of the run measures nothing.
    late = start_program(WORKER, f"--run_id={run_id}", "--worker_name=w2")
    assert "w2 measured 0 blocks." in late.finish()


@pytest.mark.slow
def test_ends_when_it_is_to(start_program, small, run_id):
    model, _, spec = small
    store = open_run(run_id)
    store.create(spec)
    store.publish(read_parameters(model), 0)
    workers = {
        start_program(WORKER, f"--run_id={run_id}", *flags): message
        for flags, message in {
            ("--worker_name=few", "--max_blocks=2"): "few measured 2 blocks.",
            # Its parent is this process, not process 1.
            ("--worker_name=orphan", "--parent=1"): "orphan measured 0 blocks.",
        }.items()
    }
    for worker, message in workers.items():
        assert message in worker.finish()


@pytest.mark.slow
def test_what_is_refused(start_program, small, run_id):
    open_run(run_id).create(small[-1])
    workers = {
        start_program(WORKER, f"--run_id={run_id}", flag): message
        for flag, message in {
            "--model=lenet": r"(model: ",
            "--seed=1": r"(data: ",  # determines which examples are drawn
            "--block_size=32": r"(block_size: 64 there, 32 here)",
        }.items()
    }
    for worker, message in workers.items():
        assert message in worker.refuse()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lease_seconds=0"], "0.1"),
        (["--run_id=a/b"], "1 to 64 letters"),
        (["--weights=a,b"], "--weights takes only one value in this program"),
    ],
)
def test_bad_flags_are_one_line(start_program, arguments, message):
    worker = start_program(WORKER, *arguments)
    assert worker.wait() != 0
    assert message in worker.said
    assert "Traceback" not in worker.said


def test_help_answers_without_tensorflow(help_of):
    shown = help_of(WORKER)
    for flag in ("--worker_name", "--lease_seconds", "--max_blocks", "--store", "--run_id"):
        assert f"  {flag}" in shown
