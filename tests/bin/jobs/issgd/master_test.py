import dataclasses
import json
import os
import subprocess
import sys
import types
import uuid

import keras
import numpy as np
import pytest

from bin.common import configs, ends
from bin.jobs.issgd import config, local_workers, master, training
from thesis_tf.issgd import stores
from thesis_tf.issgd.stores.backends.shm import MEMORY

RNG = np.random.default_rng(0)
DATA = {"train": (RNG.normal(size=(30, 4)).astype("f"), RNG.integers(3, size=30))}


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """As that of bin.issgd_master, whose flags have the names of another program's."""

    mode: str = "relaxed"


def settings(block_size=10, mode="relaxed", examples=None):
    data, model = configs.Data(examples=examples), configs.Model("mlp")
    run = config.RunSettings(data, model, run_id=uuid.uuid4().hex, block_size=block_size)
    how = config.SynchronizedTraining(batch_size=10, sync_every=2, optimizer="sgd")
    return Config(run, config.Draws(), how, configs.Hardware(), mode)


def made(folder, store, *, own, block_size=10):
    """Returns the trainer of a small network on a store."""
    given = settings(block_size)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    given.training.compile(model)
    proposal = given.draws.proposal(30, 0)

    def make(synchronizer):
        return training.trainer(
            given, config.Limits(), folder, model, DATA, proposal, synchronizer, on_sync=print
        )

    return master.trainer_with_store(make, store, given, own=own)


def test_only_a_store_of_its_own_is_replaced(tmp_path):
    url, run_id = f"memory://{uuid.uuid4().hex}", "left"
    made(tmp_path / "left", stores.open_store(url, run_id=run_id), own=True)
    with pytest.raises(stores.RunMismatchError, match="block_size: 10 there, 15 here"):
        made(tmp_path / "other", stores.open_store(url, run_id=run_id), own=False, block_size=15)
    made(tmp_path / "new", stores.open_store(url, run_id=run_id), own=True, block_size=15)
    store = stores.open_store(url, run_id=run_id)
    store.join()
    assert len(store.pull("train").versions) == 2  # blocks of 15 of 30 examples
    store.delete()


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """A function that returns one local worker, which ends at once."""

    def start(self, number, file):
        worker = subprocess.Popen([sys.executable, "-c", ""], stdout=file, stderr=file)
        worker.wait(900)
        return worker

    monkeypatch.setattr(local_workers.LocalWorkers, "_start", start)
    return lambda: local_workers.LocalWorkers(1, tmp_path, "shm://x")


def asked(limits, seconds, stop):
    """Trains in place of a trainer; returns what it was asked."""
    return limits, seconds, stop()


def test_training_only_waits_for_workers_that_run(ended):
    trainer, limits = types.SimpleNamespace(train=asked), config.Limits(steps=7, max_seconds=2.0)
    assert master.train(trainer, limits, ended(), waits=False) == (7, 2.0, False)
    with pytest.raises(ends.RunError, match="waits for workers, but all of them ended"):
        master.train(trainer, limits, ended(), waits=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["uniform", "relaxed"])
def test_from_config_to_metrics(tmp_path, records, mode, said_in_pictures):
    given, begun, said = settings(mode=mode, examples=(60, 20, 20)), [], []
    limits = config.Limits(steps=6)
    metrics = master.run(given, limits, tmp_path, begin=begun.append, warn=said.append)
    assert len(begun) == 1
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert [record["step"] for record in records(tmp_path)] == [2, 4, 6]
    assert {"checkpoint.npz", "logs", "training.png", "model.keras"} <= set(os.listdir(tmp_path))
    assert not list(MEMORY.glob(f"*{given.run.run_id}*"))  # shared memory has been freed
    alone = "All draws were uniform, so this was no importance sampling"  # there are no workers
    assert any(alone in sentence for sentence in said) == (mode == "relaxed")
    assert (alone in said_in_pictures["training.png"]) == (mode == "relaxed")
