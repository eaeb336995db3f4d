import numpy as np
import pytest

from thesis_tf.issgd import History, Pulled, Synchronizer, Trainer


class Listening(Synchronizer):
    """Records the calls of a trainer."""

    needs_norms = True

    def __init__(self):
        self.calls = []

    def connect(self, trainer):
        self.calls.append(("connect", trainer.step, sorted(trainer.data)))

    def begin(self, step):
        self.calls.append(("begin", step))

    def pull(self, step, stop):
        self.calls.append(("pull", step))
        return Pulled(losses={"test": 0.5}, waited=1.5)

    def add_norms(self, rows, norms, step):
        self.calls.append(("add_norms", step, rows.shape == norms.shape))

    def publish(self, step):
        self.calls.append(("publish", step))

    def close(self, history, *, finished):
        self.calls.append(("close", len(history.records), finished))


def test_a_trainer_calls_it_in_this_order(task):
    listening = Listening()
    trainer = Trainer(task.model(), task.data, synchronizer=listening, batch_size=10, sync_every=4)
    trainer.train(8)
    assert listening.calls == [
        ("connect", 0, ["test", "train", "validation"]),
        ("begin", 0),
        *(("pull", 0), ("add_norms", 4, True), ("publish", 4)),
        *(("pull", 4), ("add_norms", 8, True), ("publish", 8)),
        ("close", 2, True),
    ]
    record = trainer.history.records[-1]
    assert (record.losses, record.waited, record.exchanged_with) == ({"test": 0.5}, 1.5, None)


def test_it_is_closed_after_an_error(task):
    listening = Listening()
    listening.begin = lambda step: 1 / 0
    trainer = Trainer(task.model(), task.data, synchronizer=listening, batch_size=10)
    with pytest.raises(ZeroDivisionError):
        trainer.train(4)
    assert listening.calls[-1] == ("close", 0, False)


def test_one_that_can_not_connect_lets_the_folder_go(task, tmp_path):
    failing = Synchronizer()
    failing.connect = lambda training: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Trainer(task.model(), task.data, synchronizer=failing, folder=tmp_path)
    Trainer(task.model(), task.data, folder=tmp_path)


def test_by_itself_it_does_nothing():
    alone = Synchronizer()
    alone.begin(0)
    alone.add_norms(np.arange(2), np.ones(2), 1)
    alone.publish(1)
    alone.close(History(), finished=True)
    assert alone.pull(1, lambda: False) == Pulled()
    assert (alone.version(7), alone.needs_norms) == (7, False)
