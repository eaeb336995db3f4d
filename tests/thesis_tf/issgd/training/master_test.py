import contextlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd import Additive, MasterSynchronizer, Proposal, Trainer, Worker
from thesis_tf.issgd.stores import (
    RunMismatchError,
    RunTakenError,
    open_store,
)
from thesis_tf.issgd.training.model_parameters import read_parameters

BLOCK = 16
DRAWS = 100_000
ENDLESS = 10**9  # steps


def master_on(task, store, proposal=None, model=None, **options):
    options = {"batch_size": 12, "sync_every": 4, "block_size": BLOCK} | options
    how = {name: options.pop(name) for name in ("exact", "block_size") if name in options}
    synchronizer = MasterSynchronizer(store, **how)
    return Trainer(
        model or task.model(), task.data, proposal=proposal, synchronizer=synchronizer, **options
    )


def worker_on(task, store, **options):
    return Worker(task.model(9), task.loss, task.data, store, block_size=BLOCK, **options)


def proposal_on(task, weights=None, **options):
    """Returns a `Proposal`, by default with norms that no worker will measure."""
    proposal = Proposal(len(task.data["train"][1]), **options)
    if weights is None:
        weights = np.random.default_rng(1).exponential(size=proposal.num_examples)
    proposal.update(None, weights, 0)
    return proposal


@contextlib.contextmanager
def workers(in_thread, task, open_memory, count=2):
    with contextlib.ExitStack() as running:
        for _ in range(count):
            worker = worker_on(task, open_memory())
            running.enter_context(in_thread(lambda worker=worker: worker.run(poll_seconds=0.001)))
        yield


def assert_same(a, b, **tolerance):
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0, **tolerance})


class Watched(Proposal):
    """Records, at every draw, how far its norms are from those of the master's model."""

    master = None

    def sample(self, n, *, step=None):
        if step % 4 == 0:
            x, y = self.data
            _, squares = self.norms(x, y)
            self.differences.append(np.abs(self.smoothed_norms() - np.sqrt(squares)).max())
            self.current.append((self.master.tracker.versions == self.master.step).all())
        return super().sample(n, step=step)


@pytest.mark.slow
def test_exact_draws_are_by_present_norms(open_memory, task, in_thread):
    proposal = Watched(90, smoothing=Additive(0.0))
    proposal.differences, proposal.current = [], []
    master = proposal.master = master_on(task, open_memory(), proposal, exact=True)
    proposal.data = task.data["train"]
    proposal.norms = per_example_gradient_norms(master.model, task.loss)
    with workers(in_thread, task, open_memory):
        history = master.train(40)
    assert proposal.current == [True] * 10
    assert max(proposal.differences) < 1e-5
    for record in history.records:
        assert record.staleness == 4  # steps since the synchronization
        assert record.usable == 1
        assert record.waited > 0
    last = history.records[-1]
    assert last.gradient_variances["ideal"] <= last.gradient_variances["uniform"]
    names = {"train_loss", "train_error", "validation_loss", "test_error"}
    assert names <= last.values().keys()


@pytest.mark.slow
def test_relaxed_draws_are_by_what_workers_measured(open_memory, task, in_thread):
    def stop(record):
        # All blocks have been measured, and some of them twice.
        if record.gradient_variances and record.usable == 1:
            raise InterruptedError

    master = master_on(task, open_memory(), on_sync=stop)
    with workers(in_thread, task, open_memory):
        with pytest.raises(InterruptedError):
            master.train(ENDLESS, seconds=900)
        first, *_, last = master.history.records
        assert first.uniform
        assert not last.uniform
        master = master_on(task, open_memory(), model=master.model)
        master.train(4)
    store = open_memory()
    store.join()
    assert store.finished()
    assert store.head() == 4
    np.testing.assert_array_equal(store.fetch().values, read_parameters(master.model))


def test_without_workers_it_trains_uniformly_and_says_so(open_memory, task):
    said = []
    master = master_on(task, open_memory(), log=said.append)
    history = master.train(20)
    assert all(record.uniform for record in history.records)
    first, last = said
    assert first.endswith(
        "draws are uniform, because no gradient norm is known, or none is recent enough."
    )
    assert last.startswith(
        "All draws were uniform: workers have measured too few examples, or none."
    )
    options = {"batch_size": 12, "sync_every": 4}
    trainer = Trainer(task.model(), task.data, proposal=Proposal(90), **options)
    trainer.train(20)
    assert_same(master.model, trainer.model)


@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "weights"])
def test_goes_on_from_its_checkpoint(open_memory, task, tmp_path, uniform):
    def proposal():
        return Proposal(90) if uniform else proposal_on(task)

    def keep(record):
        if record.step == 20:  # the checkpoint is from step 16; the store has at least this version
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    whole = master_on(
        task, open_memory(), proposal(), folder=tmp_path / "whole", checkpoint_every=8,
        on_sync=keep,
    )  # fmt: skip
    whole.train(40)
    store = open_memory()
    store.join()
    head = store.head()
    assert head == 40

    # The gradient norms are those of the checkpoint, for any initial proposal.
    killed = master_on(task, open_memory(), Proposal(90), folder=tmp_path / "killed")
    assert killed.step == 16
    assert [record.step for record in killed.history.records] == [4, 8, 12, 16]
    assert not store.finished()
    killed.train(40)
    assert_same(killed.model, whole.model)
    assert [r.step for r in killed.history.records] == list(range(4, 44, 4))
    assert [r.loss for r in killed.history.records] == [r.loss for r in whole.history.records]
    # Versions that were published before belong to other parameters.
    assert store.head() > head
    np.testing.assert_array_equal(store.fetch().values, read_parameters(killed.model))


@pytest.mark.slow
def test_exact_goes_on_where_the_store_is_ahead(open_memory, task, in_thread, tmp_path):
    for sync_every, ages in ((4, [4, 4]), (2, [4, 4, 2, 2, 2, 2])):
        master = master_on(task, open_memory(), exact=True, folder=tmp_path, sync_every=sync_every)
        with workers(in_thread, task, open_memory):
            history = master.train(master.step + 8)
        assert [record.staleness for record in history.records] == ages


@pytest.mark.slow
def test_trains_on(open_memory, task):
    parts = master_on(task, open_memory())
    for steps in (0, 8, 8, 20):
        parts.train(steps)
    whole = master_on(task, open_store("memory://whole"))
    whole.train(20)
    open_store("memory://whole").delete()
    assert_same(parts.model, whole.model)
    store = open_memory()
    store.join()
    assert store.finished()
    np.testing.assert_array_equal(store.fetch().values, read_parameters(parts.model))


def test_of_two_masters_the_second_is_refused(open_memory, task, tmp_path):
    first = master_on(task, open_memory(), folder=tmp_path / "a")
    for folder in (None, tmp_path / "b"):
        with pytest.raises(RunTakenError, match=r"has had another master .* choose another run id"):
            master_on(task, open_memory(), folder=folder)
    with pytest.raises(RunTakenError, match=r"Another process trains in .*/a"):
        master_on(task, open_memory(), folder=tmp_path / "a")
    first.train(8)
    assert [record.step for record in first.history.records] == [4, 8]
    second = master_on(task, open_memory(), folder=tmp_path / "b")
    assert second.step == 0
    second.train(4)


def test_what_differs_is_said(open_memory, task):
    master_on(task, open_memory()).train(4)
    with pytest.raises(RunMismatchError, match=r"\(block_size: 16 there, 8 here\)"):
        master_on(task, open_memory(), block_size=8)
    with pytest.raises(RunMismatchError, match=r"model: .*parameter_bytes: 204 there, 236 here"):
        master_on(task, open_memory(), model=task.model(hidden=7))
    task.data["test"][1][0] += 1
    with pytest.raises(RunMismatchError, match=r"\(data: "):
        master_on(task, open_memory())


def test_a_failure_is_no_end_of_the_run(open_memory, task, tmp_path):
    def fail(record):
        if record.step == 8:
            raise KeyboardInterrupt

    master = master_on(task, open_memory(), on_sync=fail, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        master.train(40)
    store = open_memory()
    store.join()
    assert not store.finished()
    assert master_on(task, open_memory(), folder=tmp_path).step == 8


@pytest.mark.slow
def test_goes_on_without_its_store(redis_server, task, in_thread, until):
    said, lost, back = [], [], []

    def come_and_go(record):
        step = record.step
        if not lost and record.usable == 1:
            redis_server.stop()
            until(lambda: any("training continues" in message for message in said))
            lost.append(step)
        elif lost and not back and step >= lost[0] + 40:
            redis_server.start()
            back.append(step)
        elif back and record.usable == 1 and (master.tracker.versions > back[0]).all():
            raise InterruptedError

    options = {"log": said.append, "on_sync": come_and_go}
    master = master_on(task, open_store(redis_server.url), **options)
    worker = worker_on(task, open_store(redis_server.url))
    with in_thread(lambda: worker.run(poll_seconds=0.01)):
        with pytest.raises(InterruptedError):
            master.train(ENDLESS, seconds=900)
        assert any(message.startswith("The store is back") for message in said)
        assert any("it was created again" in message for message in said)
        store = open_store(redis_server.url)
        store.join()
        assert store.head() > back[0]
        store.finish()
    steps = [record.step for record in master.history.records]
    assert steps == list(range(4, steps[-1] + 4, 4))


def gradients_of(model, x, y):
    """Returns the gradients of each example for a model of one dense layer, (n, parameters)."""
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta = p - np.eye(p.shape[1])[y]
    return np.concatenate([(x[:, :, None] * delta[:, None, :]).reshape(len(x), -1), delta], axis=1)


def flat(model):
    return np.concatenate([w.reshape(-1) for w in model.get_weights()])


def regression(task, learning_rate=0.1):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile(keras.optimizers.SGD(learning_rate), task.loss)
    return model


def test_a_step_follows_the_scaled_gradient(open_memory, task):
    proposal, model = proposal_on(task), regression(task, 1.0)
    x, y = task.data["train"]
    gradients, before = gradients_of(model, x, y), flat(model)
    rows, scales = proposal_on(task).sample(12, step=0)
    assert scales.std() > 0.1
    master_on(task, open_memory(), proposal, model, sync_every=1).train(1)
    expected = (scales[:, None] * gradients[rows]).mean(0)
    np.testing.assert_allclose(before - flat(model), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [None, 1000], ids=["any age", "threshold"])
@pytest.mark.parametrize("smoothing", [Additive(0.05), None], ids=["additive", "default"])
def test_the_masters_gradient_is_unbiased(open_memory, task, staleness, smoothing):
    options = {} if smoothing is None else {"smoothing": smoothing}
    proposal = Proposal(90, staleness=staleness, **options)
    model = regression(task)

    def stop(record):
        if record.usable > 0:
            raise InterruptedError

    master = master_on(task, open_memory(), proposal, model, sync_every=50, on_sync=stop)
    master.train(2000)
    # Norms as workers leave them: some are old, some are for other parameters, some are unknown.
    store = open_memory()
    store.join()
    gradients = gradients_of(model, *task.data["train"])
    norms = np.linalg.norm(gradients, axis=1)
    for block, version in ((0, 2000), (1, 2000), (2, 1999), (3, 2)):
        start, stop = store.block_range("train", block)
        weights = norms[start:stop] * np.random.default_rng(block).uniform(0.1, 3, stop - start)
        weights[::5] = np.nan
        store.push("train", block, weights, version, "w", 0.0, 0.0)
    with pytest.raises(InterruptedError):
        master.train(ENDLESS, seconds=900)

    usable = master.history.records[-1].usable
    assert usable == pytest.approx((36 if staleness else 48) / 90)
    assert not proposal.is_uniform
    gradients = gradients_of(model, *task.data["train"])
    rows, scales = proposal.sample(DRAWS, step=0)
    drawn = scales[:, None] * gradients[rows]
    error = drawn.mean(0) - gradients.mean(0)
    assert (np.abs(error) < 4 * drawn.std(0) / np.sqrt(DRAWS)).all()
    # Without importance weights, the same draws are biased.
    biased = gradients[rows].mean(0) - gradients.mean(0)
    assert (np.abs(biased) > 4 * gradients[rows].std(0) / np.sqrt(DRAWS)).any()


def test_two_devices_train_as_one(open_memory, task, two_devices):
    one = master_on(task, open_memory(), proposal_on(task))
    one.train(40)
    # Collective reductions remember shapes for the whole process, and other tests use them, too.
    to_one = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(two_devices, cross_device_ops=to_one).scope():
        model = task.model()
    other = open_store("memory://mirrored")
    two = master_on(task, other, proposal_on(task), model)
    two.train(40)
    other.delete()
    # Sums over a batch are computed in another order.
    assert_same(two.model, one.model, atol=1e-5)
    np.testing.assert_allclose(
        [record.loss for record in two.history.records],
        [record.loss for record in one.history.records],
        rtol=1e-4,
    )


def test_several_inputs(open_memory, task, in_thread):
    def model():
        keras.utils.set_random_seed(0)
        a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
        outputs = keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))
        made = keras.Model({"a": a, "b": b}, outputs)
        made.compile(keras.optimizers.SGD(0.1), task.loss)
        return made

    data = {name: ({"a": x, "b": -x}, y) for name, (x, y) in task.data.items()}
    task.data = data
    master = master_on(task, open_memory(), model=model(), exact=True)
    worker = Worker(model(), task.loss, data, open_memory(), block_size=BLOCK)
    with in_thread(lambda: worker.run(poll_seconds=0.001)):
        history = master.train(8)
    assert history.records[-1].usable == 1
    assert "validation_error" in {name for record in history.records for name in record.values()}


def test_losses_are_means_over_examples(task, open_memory):
    # The 20 validation examples are a block of 16 and one of 4.
    master, worker = master_on(task, open_memory()), open_memory()
    worker.join()
    worker.push("validation", 0, np.zeros(16, np.float32), 0, "w", loss=1.0, error=0.0)
    worker.push("validation", 1, np.zeros(4, np.float32), 0, "w", loss=6.0, error=1.0)
    synchronizer = master._synchronizer
    applied = synchronizer._apply({"validation": worker.pull("validation")})
    assert applied == ({"validation": 2.0}, {"validation": 0.2})
    # Without new blocks, nothing is recorded.
    assert synchronizer._apply({"validation": worker.pull("validation")}) == ({}, {})
    synchronizer.close(master.history, finished=False)


def test_says_how_it_draws(task, open_memory):
    said = []
    proposal = proposal_on(task)
    proposal.uniform = True
    master_on(task, open_memory(), proposal, log=said.append).train(4)
    assert said == ["From step 0 on, draws are uniform, because uniform draws were asked for."]
