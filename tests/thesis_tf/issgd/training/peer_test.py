import threading

import keras
import numpy as np
import pytest

from thesis_tf.gradient_norms import per_example_gradient_norms
from thesis_tf.issgd import PeerSynchronizer, Proposal, Trainer
from thesis_tf.issgd.stores import RunMismatchError, RunTakenError, open_store
from thesis_tf.issgd.training.model_parameters import read_parameters
from thesis_tf.issgd.transport import peer_connection

NORMS = 2e-5  # float32 sums in another order


def of_the_store(said):
    """Returns the messages except those on how examples are drawn."""
    return [message for message in said if not message.startswith("From step")]


def peer_on(task, store, name="a", seed=0, **options):
    options = {"batch_size": 10, "sync_every": 4, "block_size": 16} | options
    # Draws use norms as soon as one is known; each peer has a separate seed.
    proposal = Proposal(len(task.data["train"][1]), seed=seed, min_usable=0)
    model = options.pop("model", None) or task.model(seed)
    names = ("syncs_per_exchange", "mixing_fraction", "block_size")
    how = {key: options.pop(key) for key in names if key in options}
    synchronizer = PeerSynchronizer(store, name, **how)
    return Trainer(model, task.data, proposal=proposal, synchronizer=synchronizer, **options)


@pytest.mark.slow
def test_one_alone(open_memory, task):
    peer = peer_on(task, open_memory())
    records = peer.train(200).records
    assert records[-1].loss < 0.9 * records[0].loss
    assert records[-1].usable == 1
    assert not records[-1].uniform
    assert all(record.exchanged_with is None for record in records)
    store = open_memory()
    store.join()
    assert store.head(slot="a") == 200
    np.testing.assert_array_equal(store.fetch(slot="a").values, read_parameters(peer.model))
    assert not np.isnan(store.pull("train").values).any()


def test_pushes_the_norms_of_what_it_trains_on(open_memory, task):
    # At a learning rate of 0, all norms are for the current parameters.
    peer = peer_on(task, open_memory(), model=task.model(learning_rate=0.0))
    peer.train(4)
    store = open_memory()
    store.join()
    found = store.pull("train").values
    x, y = task.data["train"]
    _, squares = per_example_gradient_norms(peer.model, task.loss)(x, y)
    known = ~np.isnan(found)
    assert 10 < known.sum() <= 40
    np.testing.assert_allclose(found[known], np.sqrt(squares)[known], rtol=NORMS)


@pytest.mark.slow
def test_two_share_norms_and_parameters(open_memory, task, in_thread):
    together = threading.Barrier(2)
    options = {"on_sync": lambda record: together.wait(900)}
    a, b = (peer_on(task, open_memory(), name, seed, **options) for seed, name in enumerate("ab"))
    apart = np.linalg.norm(a.model.get_weights()[0] - b.model.get_weights()[0])
    with in_thread(lambda: a.train(600)), in_thread(lambda: b.train(600)):
        pass
    for peer, other in ((a, "b"), (b, "a")):
        assert {r.exchanged_with for r in peer.history.records} - {None} == {other}
        assert peer.history.records[-1].loss < 1.05
    assert np.linalg.norm(a.model.get_weights()[0] - b.model.get_weights()[0]) < 0.5 * apart


@pytest.mark.slow
def test_draws_by_what_others_measured(open_memory, task):
    a, b = (peer_on(task, open_memory(), name, seed) for seed, name in enumerate("ab"))
    a.train(40)
    b.train(4)
    # With 40 draws it has measured at most 40 of the 90 examples.
    assert b.tracker.proposal.usable > 0.9


def test_a_late_joiner_begins_with_anothers_parameters(open_memory, task):
    a, b = (peer_on(task, open_memory(), name, seed) for seed, name in enumerate("ab"))
    a.train(8)
    b.train(0)
    for own, other in zip(b.model.get_weights(), a.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert not np.allclose(task.model(1).get_weights()[0], a.model.get_weights()[0])


@pytest.mark.slow
def test_one_that_has_only_begun_counts_for_less(open_memory, task):
    peer = peer_on(task, open_memory())
    peer.train(40)
    for version, fraction in ((0, 0.0), (10, 0.125), (40, 0.5), (80, 0.5)):
        before, theirs = peer.model.get_weights(), task.model(5)
        found = peer_connection.PeerParameters("b", version, read_parameters(theirs))
        peer._synchronizer._connection.pull = lambda found=found: (None, found)
        assert peer._synchronizer.pull(peer.step, lambda: False).exchanged_with == "b"
        for now, old, other in zip(
            peer.model.get_weights(), before, theirs.get_weights(), strict=True
        ):
            np.testing.assert_allclose(now, old + fraction * (other - old), atol=1e-6)


@pytest.mark.slow
def test_goes_on_from_its_checkpoint(open_memory, task, tmp_path):
    peer_on(task, open_memory(), folder=tmp_path, checkpoint_every=4).train(8)
    # The published version is ahead of the checkpoint, as after a kill.
    store = open_memory()
    store.join()
    store.publish(read_parameters(task.model(5)), 20, slot="a")
    peer = peer_on(task, open_memory(), folder=tmp_path)
    assert peer.step == 8
    assert [record.step for record in peer.train(16).records] == [4, 8, 12, 16]
    assert store.head(slot="a") > 20
    np.testing.assert_array_equal(store.fetch(slot="a").values, read_parameters(peer.model))


def test_a_run_that_was_lost_is_made_again(open_memory, task):
    store, said = open_memory(), []

    def lose(record):
        if record.step == 200:
            open_memory().delete()

    peer = peer_on(task, store, log=said.append, on_sync=lose)
    peer.train(208)
    assert of_the_store(said) == ["The store had lost the run; it was created again."]
    # The peer also pushes earlier norms again.
    assert not np.isnan(store.pull("train").values).any()
    assert store.head(slot="a") == 208


@pytest.mark.slow
def test_a_server_that_is_away(redis_server, task, until):
    said = []

    def come_and_go(record):
        if record.step == 8:
            redis_server.stop()
        elif record.step == 16:
            until(lambda: any("training continues" in message for message in said))
            redis_server.start()
        elif record.step == 24:
            until(lambda: any("The store is back" in message for message in said))

    peer = peer_on(task, open_store(redis_server.url), log=said.append, on_sync=come_and_go)
    peer.train(28)
    assert [message.split(":")[0].split(" after")[0] for message in of_the_store(said)] == [
        "The store can't be reached, training continues",
        "The store had lost the run; it was created again.",
        "The store is back",
    ]
    store = open_store(redis_server.url)
    store.join()
    assert store.head(slot="a") == 28


def test_begins_without_its_server(redis_server, task):
    said = []
    peer = peer_on(task, open_store(redis_server.url), log=said.append)
    redis_server.stop()
    peer.train(8)
    assert peer.step == 8
    assert "The store can't be reached, training begins alone" in said[0]


def test_one_name_for_two(open_memory, task):
    def publish_as_another(record):
        if record.step == 8:
            other = open_memory()
            other.join()
            other.publish(read_parameters(task.model(5)), 1000, slot="a")

    peer = peer_on(task, open_memory(), on_sync=publish_as_another)
    with pytest.raises(RunTakenError, match="with the name 'a'"):
        peer.train(100_000)


def test_a_run_that_is_over_makes_way(open_memory, task, monkeypatch):
    peer_on(task, open_memory(), "a").train(40)
    monkeypatch.setattr(peer_connection, "ALIVE_SECONDS", 1e-9)  # as if a long time had passed
    peer = peer_on(task, open_memory(), "b", seed=1)
    peer.train(4)
    # Norms that were measured before are for other parameters.
    assert peer.tracker.proposal.usable < 0.5
    store = open_memory()
    store.join()
    assert store.head(slot="a") is None


def test_what_it_refuses(open_memory, task):
    peer_on(task, open_memory())
    with pytest.raises(RunMismatchError, match="block_size: 16 there, 8 here"):
        peer_on(task, open_memory(), block_size=8)
    with pytest.raises(RunMismatchError, match="model: "):
        peer_on(task, open_memory(), model=task.model(hidden=5))
    with pytest.raises(
        ValueError,
        match=r"`mixing_fraction` must be a positive number|`mixing_fraction` must be in \(0, 1\]",
    ):
        peer_on(task, open_memory(), mixing_fraction=1.5)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    )
    model.compile("sgd", task.loss)
    open_memory().delete()
    with pytest.raises(ValueError, match="batch_normalization"):
        peer_on(task, open_memory(), model=model).train(1)
