import signal

import keras
import numpy as np
import pytest

from thesis_tf._keras.objective import Objective
from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd import Worker
from thesis_tf.issgd.stores import RunMismatchError, open_store
from thesis_tf.issgd.training.examples import by_split
from thesis_tf.issgd.training.model_parameters import read_parameters, spec_of

BLOCK = 16
BLOCKS = {"train": 6, "validation": 2, "test": 2}  # the blocks of a `Task`


def spec(task, model=None, block_size=BLOCK):
    model = task.model() if model is None else model
    return spec_of(model, Objective(model, task.loss).loss_name, by_split(task.data), block_size)


def worker_on(task, store, **options):
    return Worker(
        task.model(seed=9), task.loss, task.data, store, block_size=BLOCK, batch_size=10, **options
    )


@pytest.fixture
def store(open_memory, task):
    """A store with a run in which nothing has been published."""
    store = open_memory()
    store.create(spec(task))
    return store


def all_current(store, version):
    return lambda: all((store.pull(split).versions == version).all() for split in BLOCKS)


def assert_measured(store, task, model, version):
    """Checks that everything in the store was measured with the model of this version."""
    norms_of = per_example_gradient_norms(model, task.loss)
    for split, (x, y) in task.data.items():
        losses, squares = (np.asarray(values) for values in norms_of(x, y))
        wrong = np.argmax(model(x), -1) != y
        found = store.pull(split)
        assert found.versions.tolist() == [version] * BLOCKS[split]
        expected = np.sqrt(squares) if split == "train" else losses
        np.testing.assert_allclose(found.values, expected, rtol=2e-6)
        for block in range(BLOCKS[split]):
            rows = slice(*store.block_range(split, block))
            np.testing.assert_allclose(found.losses[block], losses[rows].mean(), rtol=1e-6)
            assert found.errors[block] == pytest.approx(wrong[rows].mean())


@pytest.mark.slow
def test_measures_the_version_that_it_says(store, open_memory, task):
    worker = worker_on(task, open_memory())
    for seed, version in ((0, 7), (1, 8), (2, 30)):
        model = task.model(seed)
        store.publish(read_parameters(model), version)
        assert worker.run(blocks=10) == 10
        assert_measured(store, task, model, version)


def test_a_model_that_is_not_built_is_built_for_the_data(store, open_memory, task):
    model = keras.Sequential([keras.layers.Dense(6, "tanh"), keras.layers.Dense(3)])
    worker = Worker(model, task.loss, task.data, open_memory(), block_size=BLOCK)
    store.publish(read_parameters(task.model()), 4)
    assert worker.run(blocks=10) == 10
    assert_measured(store, task, task.model(), 4)


def test_ignored_labels_count_in_each_split_as_in_evaluate(open_memory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    rng, data = np.random.default_rng(0), {}
    for split, ignored in (("train", 0.1), ("validation", 0.7), ("test", 0.4)):
        y = rng.integers(0, 3, 2 * BLOCK)
        y[rng.uniform(size=2 * BLOCK) < ignored] = -1
        data[split] = rng.normal(size=(2 * BLOCK, 5)).astype("float32"), y
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(loss=loss)
    store = open_memory()
    store.create(spec_of(model, Objective(model, loss).loss_name, by_split(data), BLOCK))
    store.publish(read_parameters(model), 1)
    Worker(model, loss, data, store, block_size=BLOCK, batch_size=10).run(blocks=6)
    for split, (x, y) in data.items():
        expected = model.evaluate(x, y, batch_size=2 * BLOCK, verbose=0)
        assert np.mean(store.pull(split).losses) == pytest.approx(expected, rel=1e-5)
        wrong, labelled = np.argmax(model(x), -1) != y, y >= 0
        for block, error in enumerate(store.pull(split).errors):
            rows = slice(*store.block_range(split, block))
            assert error == pytest.approx(wrong[rows][labelled[rows]].mean())


def test_errors_of_masked_outputs_are_not_known(open_memory):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    rng, told = np.random.default_rng(0), []
    data = {"train": (rng.integers(0, 9, (BLOCK, 6)), rng.integers(0, 3, (BLOCK, 6)))}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    store = open_memory()
    store.create(spec_of(model, Objective(model, loss).loss_name, by_split(data), BLOCK))
    store.publish(read_parameters(model), 1)
    options = {"block_size": BLOCK, "turns": {"train": 1}, "log": told.append}
    Worker(model, loss, data, store, **options).run(blocks=1)
    assert np.isnan(store.pull("train").errors).all()
    assert told[0].startswith("The outputs have a mask")
    own = Worker(model, loss, data, store, **options, error=lambda y, outputs: np.ones(len(y)))
    store.publish(read_parameters(model), 2)
    own.run(blocks=1)
    assert store.pull("train").errors.tolist() == [1]


def test_leaves_current_blocks_alone(store, open_memory, task):
    store.publish(read_parameters(task.model()), 5)
    worker = worker_on(task, open_memory())
    worker.run(blocks=10)
    looks = iter([False, False, True])
    assert worker.run(stop=lambda: next(looks), poll_seconds=0.001) == 0

    store.publish(read_parameters(task.model(1)), 6)
    own = np.ones(BLOCK, np.float32)
    store.push("train", 2, own, 6, "other", 0.0, 0.0)
    assert worker.run(blocks=9) == 9
    found = store.pull("train")
    np.testing.assert_array_equal(found.values[2 * BLOCK : 3 * BLOCK], own)
    assert all_current(store, 6)()


def test_takes_the_splits_in_turn(open_memory, task):
    task = type(task)(40 * BLOCK, 2 * BLOCK, 2 * BLOCK)
    store = open_memory()
    store.create(spec(task))
    store.publish(read_parameters(task.model()), 0)
    worker = worker_on(task, open_memory())
    for rounds in (1, 2):
        worker.run(blocks=22)
        done = [int((store.pull(split).versions == 0).sum()) for split in BLOCKS]
        assert done == [20 * rounds, rounds, rounds]


def test_may_come_before_the_master_and_outlive_a_run(open_memory, task, in_thread, until):
    store, said = open_memory(), []
    worker = worker_on(task, open_memory(), log=said.append)
    with in_thread(lambda: worker.run(poll_seconds=0.01)):
        until(lambda: said)
        assert "Wait until a master has created it" in said[0]
        store.create(spec(task))
        store.publish(read_parameters(task.model()), 3)
        until(all_current(store, 3))
        assert [message.split()[-3:] for message in said[1:]] == [["joined", "the", "run."]]
        assert store.alive("worker", 60) == [worker.name]

        # The same versions as before, but of another run.
        store.delete()
        store.create(spec(task))
        store.publish(read_parameters(task.model(4)), 3)
        until(all_current(store, 3))
        store.finish()
    assert_measured(store, task, task.model(4), 3)


@pytest.mark.slow
def test_outlives_a_redis_server(redis_server, task, in_thread, until):
    store = open_store(redis_server.url)
    store.create(spec(task))
    store.publish(read_parameters(task.model()), 1)
    said = []
    worker = worker_on(task, open_store(redis_server.url), log=said.append)
    with in_thread(lambda: worker.run(poll_seconds=0.01)):
        until(all_current(store, 1))
        redis_server.stop(signal.SIGKILL)
        until(lambda: any("can't be reached" in message for message in said))
        redis_server.start()
        store.create(spec(task))
        store.publish(read_parameters(task.model(1)), 2)
        until(all_current(store, 2))
        store.finish()
    assert_measured(store, task, task.model(1), 2)


def test_a_block_of_a_dead_worker_is_redone(store, open_memory, task):
    store.publish(read_parameters(task.model()), 0)
    lost = store.lease("train", "dead", 0.5)
    worker = worker_on(task, open_memory())
    assert worker.run(blocks=10, poll_seconds=0.01) == 10
    assert store.pull("train").versions[lost] == 0


def test_what_is_not_finite_is_unknown(open_memory, task):
    x, _ = task.data["train"]
    x[3], x[20] = np.nan, np.inf
    store = open_memory()
    store.create(spec(task))
    store.publish(read_parameters(task.model()), 0)
    worker_on(task, open_memory(), turns={"train": 1}).run(blocks=6)
    found = store.pull("train")
    unknown = np.flatnonzero(np.isnan(found.values)).tolist()
    assert 3 in unknown
    assert set(unknown) <= {3, 20}
    assert (found.versions == 0).all()
    assert np.isfinite(found.values).sum() >= 88

    # The model has diverged: no norm is known.
    model = task.model()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    store.publish(read_parameters(model), 1)
    worker_on(task, open_memory(), turns={"train": 1}).run(blocks=6)
    assert np.isnan(store.pull("train").values).all()
    assert (store.pull("train").versions == 1).all()


def test_what_differs_is_said(open_memory, task):
    store = open_memory()
    store.create(spec(task))
    worker = Worker(task.model(hidden=7), task.loss, task.data, store, block_size=BLOCK)
    with pytest.raises(RunMismatchError, match=r"model: .*; parameter_bytes: 204 there, 236 here"):
        worker.run()
    worker = Worker(task.model(), "mse", task.data, store, block_size=BLOCK)
    with pytest.raises(RunMismatchError, match=r"created with other settings \(model: "):
        worker.run()
    worker = Worker(task.model(), task.loss, task.data, store, block_size=32)
    with pytest.raises(RunMismatchError, match=r"\(block_size: 16 there, 32 here\)"):
        worker.run()
    task.data["train"][0][0, 0] += 1
    with pytest.raises(RunMismatchError, match=r"\(data: "):
        worker_on(task, store).run()


@pytest.mark.parametrize("turns", [{"validation": 1}, {"train": 1, "tset": 1}, {"train": -1}])
def test_turns_that_cannot_be(open_memory, task, turns):
    with pytest.raises(ValueError, match="`turns` must be"):
        worker_on(task, open_memory(), turns=turns)


def test_an_error_of_ones_own(store, open_memory, task):
    store.publish(read_parameters(task.model()), 0)
    worker_on(task, open_memory(), error=lambda y, outputs: np.full(len(y), 0.25)).run(blocks=10)
    assert store.pull("validation").errors.tolist() == [0.25, 0.25]
