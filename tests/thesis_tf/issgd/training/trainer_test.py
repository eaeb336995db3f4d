import dataclasses
import json
import math
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd import Proposal, Synchronizer, Trainer
from thesis_tf.issgd.stores import RunTakenError
from thesis_tf.issgd.training.trainer import CHECKPOINT

OPTIMIZED_GRAPHS = True

# This code also runs in a process that is killed.
PROBLEM = """
import keras
import numpy as np
from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd import Proposal, Pulled, Synchronizer, Trainer

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(60, 5)).astype("float32"), rng.integers(0, 3, 60)

def network():
    # Dropout, batch normalization and momenta: all that changes in training.
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((5,)), keras.layers.Dense(8), keras.layers.BatchNormalization(),
        keras.layers.ReLU(), keras.layers.Dropout(0.3, seed=5), keras.layers.Dense(3),
    ])
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    return model

class Measuring(Synchronizer):
    "Measures all norms at every third synchronization."

    def connect(self, trainer):
        self.tracker = trainer.tracker
        self.norms = per_example_gradient_norms(trainer.model, LOSS)

    def pull(self, step, stop):
        if step % 12:
            return Pulled()
        norms = np.sqrt(self.norms(X, Y)[1].numpy())
        self.tracker.apply(np.arange(len(X)), norms, step)
        return Pulled(losses={"largest": float(norms.max())})

def measuring(**options):
    proposal = Proposal(len(X), smoothing=0.1, seed=3)
    options = {"batch_size": 8, "sync_every": 4, "synchronizer": Measuring(), **options}
    return Trainer(network(), {"train": (X, Y)}, proposal=proposal, **options)
"""
KILLED = """
import os, signal, sys

def kill(record):
    if record.step == 24:
        os.kill(os.getpid(), signal.SIGKILL)

measuring(folder=sys.argv[1], checkpoint_every=10, on_sync=kill).train(40)
"""
HERE = {}
exec(PROBLEM, HERE)
measuring, network, LOSS, X, Y = (HERE[n] for n in ("measuring", "network", "LOSS", "X", "Y"))


class Stopped(Exception):
    """Simulates a kill at a synchronization."""


def stop_at(step, how=Stopped):
    def on_sync(record):
        if record.step == step:
            raise how

    return on_sync


def plain(folder=None, model=None, data=(X, Y), **options):
    """Returns a trainer with uniform draws."""
    options = {"batch_size": 8, "sync_every": 4, **options}
    return Trainer(model or network(), {"train": data}, folder=folder, **options)


def mirrored_strategy(devices):
    """Returns a strategy without collectives, of which a process can use only one strategy."""
    to_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=to_one)


def without_times(history):
    return [dataclasses.replace(record, seconds=None) for record in history.records]


def assert_same_run(one, other):
    """Checks that weights, states, momenta and histories are bit-identical."""
    assert one.step == other.step
    for a, b in zip(one._variables(), other._variables(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert without_times(one.history) == without_times(other.history)
    np.testing.assert_array_equal(*(t.tracker.proposal.smoothed_norms() for t in (one, other)))


@pytest.fixture(scope="module")
def unstopped():
    trainer = measuring()
    trainer.train(40)
    assert not trainer.tracker.proposal.is_uniform
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("how", [Stopped, KeyboardInterrupt])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, unstopped, how):
    for step in (12, 28):
        with pytest.raises(how):
            measuring(folder=tmp_path, on_sync=stop_at(step, how)).train(40)
    resumed = measuring(folder=tmp_path)
    assert resumed.step == 28
    resumed.train(40)
    assert_same_run(resumed, unstopped)
    again = measuring(folder=tmp_path)
    assert_same_run(again, unstopped)
    assert again.train(40) is again.history
    assert_same_run(again, unstopped)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path, start_python, unstopped):
    process = start_python(PROBLEM + KILLED, tmp_path)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    resumed = measuring(folder=tmp_path)
    # The second checkpoint, at step 24, was due only after the kill.
    assert (resumed.step, resumed.history.records[-1].step) == (12, 12)
    resumed.train(40)
    assert_same_run(resumed, unstopped)


class Ending(Synchronizer):
    ended = None

    def close(self, history, *, finished):
        self.ended = finished


@pytest.mark.slow
def test_the_end_comes_whatever_happens(tmp_path):
    options = {"batch_size": 8, "sync_every": 4, "folder": tmp_path / "run"}
    ending = Ending()
    options |= {"synchronizer": ending, "on_sync": stop_at(8)}
    trainer = Trainer(network(), {"train": (X, Y)}, **options)
    trainer.train(4)
    assert ending.ended is True
    with pytest.raises(Stopped):
        trainer.train(12)
    assert ending.ended is False
    ending.ended = None
    (tmp_path / "run" / "checkpoint.npz").unlink()
    (tmp_path / "run" / "checkpoint.npz").mkdir()  # so that the file can't be replaced
    with pytest.raises(IsADirectoryError):
        trainer.train(12)
    assert ending.ended is not None


@pytest.mark.slow
def test_a_folder_is_of_one_training_at_a_time(tmp_path):
    first = plain(tmp_path)
    with pytest.raises(RunTakenError, match="Another process trains in"):
        plain(tmp_path)
    first.train(4)
    second = plain(tmp_path)
    assert second.step == 4
    with pytest.raises(RunTakenError, match="Another process trains in"):
        first.train(8)
    second.train(8)


@pytest.mark.slow
def test_how_steps_are_shared_out_among_calls_makes_no_difference():
    whole, parts, longer = plain(), plain(), plain(sync_every=10)
    whole.train(22)
    for steps in (3, 3, 9, 22):  # total numbers of steps
        parts.train(steps)
    longer.train(22)
    for a, b, c in zip(*(t._variables() for t in (whole, parts, longer)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        np.testing.assert_array_equal(a.numpy(), c.numpy())
    assert [r.step for r in parts.history.records] == [3, 7, 9, 13, 17, 21, 22]


class Rows:
    """Rows of an array; the n-th access is interrupted."""

    def __init__(self, array, interrupt_at):
        self.array, self.left = array, interrupt_at

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.array[rows]


@pytest.mark.slow
def test_an_interruption_in_the_middle_of_steps_saves_nothing_half_done(tmp_path):
    # Three more readings are for the form of the losses, the number of classes, and the fingerprint
    # in the checkpoint.
    trainer = plain(tmp_path, data=(Rows(X, 7), Y), checkpoint_every=8)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(40)
    assert (trainer.step, plain(tmp_path).step) == (12, 8)
    resumed, whole = plain(tmp_path), plain()
    for one in (resumed, whole):
        one.train(40)
    assert_same_run(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("sync_every", [1, 4])
def test_divergence_keeps_the_last_good_checkpoint(tmp_path, sync_every):
    model = network()
    model.compile(keras.optimizers.SGD(0.1), LOSS)

    def explode(record):
        if record.step == 8:
            model.optimizer.learning_rate.assign(np.inf)

    options = {"sync_every": sync_every, "checkpoint_every": 1}
    trainer = plain(tmp_path, model, on_sync=explode, **options)
    with pytest.raises(ValueError, match=r"diverged, or an example .* Choose a lower"):
        trainer.train(40)
    last = model.trainable_variables[-1].numpy()
    assert not np.isfinite(last).all()
    again = network()
    again.compile(keras.optimizers.SGD(0.1), LOSS)
    resumed = plain(tmp_path, again, **options)
    assert (resumed.step, resumed.history.records[-1].step) == (8, 8)
    assert all(np.isfinite(w).all() for w in again.get_weights())


@pytest.mark.slow
def test_an_update_that_diverges_after_a_finite_loss(tmp_path):
    model = network()
    model.compile(keras.optimizers.SGD(np.inf), LOSS)
    with pytest.raises(ValueError, match=r"/kernel is no longer finite at step 1"):
        plain(tmp_path, model, sync_every=1).train(5)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite(tmp_path):
    trainer = plain(tmp_path, data=(np.full_like(X, np.nan), Y))
    with pytest.raises(ValueError, match="training has diverged"):
        trainer.train(5)
    assert [path.name for path in tmp_path.iterdir()] == ["token.txt"]


@pytest.mark.slow
def test_seconds_count_over_kills(tmp_path):
    def wait(record):
        time.sleep(0.2)

    trainer = plain(tmp_path, on_sync=wait)
    trainer.train(1000, seconds=0.5)
    records = trainer.history.records
    # Each step after the first begins at least .2 s after the previous one.
    assert 1 <= len(records) <= 4
    assert records[-1].seconds >= 0.5
    assert all(r.seconds < 0.5 for r in records[:-1])
    resumed = plain(tmp_path)
    assert len(resumed.train(1000, seconds=0.5).records) == len(records)
    resumed.train(resumed.step + 4, seconds=900)
    assert len(resumed.history.records) == len(records) + 1
    assert resumed.history.records[-1].seconds > records[-1].seconds


@pytest.mark.slow
def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = plain()
    trainer.train(8)
    trainer.save()
    assert not list(tmp_path.iterdir())


def wider():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(3)])
    model.compile("sgd", LOSS)
    return model


def with_loss(loss):
    model = network()
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def with_another_rate():
    model = network()
    model.layers[3].rate = 0.2
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    plain(folder, with_loss(weighted_loss(1.0))).train(4)
    return folder


def weighted_loss(weight):
    return lambda y, outputs: (
        weight * keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "other"),
    [
        (wider, (X, Y), "another model or loss"),
        (with_another_rate, (X, Y), "another model or loss"),
        (network, (X, Y), "another model or loss"),
        (lambda: with_loss(weighted_loss(2.0)), (X, Y), "another model or loss"),
        (lambda: with_loss(weighted_loss(1.0)), (X[:50], Y[:50]), "other examples"),
        (lambda: with_loss(weighted_loss(1.0)), (X + 1, Y), "other examples"),
        (lambda: with_loss(weighted_loss(1.0)), (X[::-1], Y[::-1]), "other examples"),
        (lambda: with_loss(weighted_loss(1.0)), (X, (Y + 1) % 3), "other examples"),
    ],
    ids=["shapes", "settings", "kind of loss", "loss", "number", "inputs", "order", "labels"],
)
def test_a_folder_knows_its_training(trained, model, data, other):
    with pytest.raises(ValueError, match=f"which holds a training with {other}. Choose another"):
        plain(trained, model(), data=data)


@pytest.mark.slow
def test_the_checkpoint_of_something_else(tmp_path):
    plain(tmp_path).train(4)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is not a checkpoint, or was cut short"):
        plain(tmp_path)


@pytest.mark.slow
def test_evaluation_between_steps_changes_nothing(tmp_path):
    models = [network(), network()]
    for model in models:
        model.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    trainer = plain(tmp_path, models[0], on_sync=lambda r: models[0].evaluate(X, Y, verbose=0))
    trainer.train(8)
    assert_same_run(plain(tmp_path, models[1]), trainer)


def test_records_say_what_was_done(unstopped):
    model = network()
    norms = np.sqrt(per_example_gradient_norms(model, LOSS)(X, Y)[1])
    first, *_, fourth, fifth = unstopped.history.records[:5]
    assert [r.step for r in unstopped.history.records] == list(range(4, 41, 4))
    assert first.losses["largest"] == norms.max()
    assert (first.usable, first.uniform) == (1.0, False)
    assert first.gradient_variances == {}
    # Variances are computed when norms are measured again, and are in no later record.
    assert {"ideal", "actual", "stale+10"} <= fourth.gradient_variances.keys()
    assert fifth.gradient_variances == {}
    steps = [step for step, _, _ in unstopped.history.column("largest_loss")]
    assert steps == [4, 16, 28, 40]


class Keeping(Synchronizer):
    """Records the norms that the steps compute."""

    needs_norms = True

    def add_norms(self, rows, norms, step):
        self.kept = rows, norms


@pytest.mark.slow
def test_steps_give_the_norms_of_the_examples_that_were_drawn():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    proposal = Proposal(len(X), seed=4)
    keeping = Keeping()
    options = {"batch_size": 8, "sync_every": 3, "synchronizer": keeping}
    Trainer(model, {"train": (X, Y)}, proposal=proposal, **options).train(3)
    rows, norms = keeping.kept
    expected = [Proposal(len(X), seed=4).sample(8, step=step)[0] for step in range(3)]
    np.testing.assert_array_equal(rows, np.concatenate(expected))
    exact = per_example_gradient_norms(model, LOSS)(X, Y)[1].numpy()
    np.testing.assert_allclose(np.square(norms), exact[rows], rtol=1e-5)


@pytest.mark.slow
def test_two_devices_resume_as_one(two_devices, tmp_path):
    def mirrored():
        with mirrored_strategy(two_devices).scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
        return model

    with pytest.raises(Stopped):
        plain(tmp_path, mirrored(), on_sync=stop_at(4)).train(12)
    resumed, whole = plain(tmp_path, mirrored()), plain(None, mirrored())
    for one in (resumed, whole):
        history = one.train(12)
        assert all(math.isnan(r.squared_batch_gradient) for r in history.records)
        # NaN is not equal to NaN.
        records = history.records
        records[:] = [dataclasses.replace(r, squared_batch_gradient=None) for r in records]
    assert_same_run(resumed, whole)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`proposal` must be over 60 examples\. Received: 59"):
        Trainer(network(), {"train": (X, Y)}, proposal=Proposal(59))
    for name in ("sync_every", "checkpoint_every", "batch_size"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            plain(**{name: 0})
    with pytest.raises(ValueError, match=r'`data` must be a dict from .* has "train"'):
        Trainer(network(), {"test": (X, Y)})


def test_a_model_that_is_not_built_is_built_for_the_data():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", LOSS)
    Trainer(model, {"train": (X, Y)}, batch_size=8, sync_every=2).train(2, verbose=0)
    assert model.input_shape == (None, 5)
