"""Steps that run before a model's own, without probes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.probes.attachment import Attachment

X, Y = np.arange(12, dtype="float32").reshape(6, 2), np.zeros((6, 1), "float32")


class Counts(keras.callbacks.Callback):
    """Counts examples that its steps see; takes part in the calls `only`, or in all."""

    def __init__(self, seen, name, only=None):
        super().__init__()
        self.total, self.seen, self.name, self.only = tf.Variable(0), seen, name, only

    def step(self, x, y):
        self.total.assign_add(tf.shape(x)[0])
        self.seen.append(self.name)  # when it is traced

    def on_train_batch_begin(self, batch, logs=None):
        if self.only is None or batch in self.only:
            Attachment.of(self.model, "train_function").arm(self, self.step)

    def on_train_end(self, logs=None):
        Attachment.remove(self.model, "train_function", self)


@pytest.fixture
def model():
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(1e-3), "mse")
    return made


def fit(model, *callbacks):
    model.fit(X, Y, batch_size=2, shuffle=False, verbose=0, callbacks=list(callbacks))


def test_steps_run_in_order_and_the_model_gets_its_function_back(model):
    seen = []
    a, b = Counts(seen, "a"), Counts(seen, "b")
    fit(model, a, b)
    assert (int(a.total), int(b.total)) == (6, 6)
    assert seen[:2] == ["a", "b"]
    assert not isinstance(model.train_function, Attachment)
    assert "train_step" not in vars(model)
    assert int(model.optimizer.iterations) == 3
    fit(model)
    assert (int(a.total), int(b.total)) == (6, 6)


def test_a_step_that_is_not_armed_is_removed(model):
    seen = []
    a, b = Counts(seen, "a", only=[0]), Counts(seen, "b")
    fit(model, a, b)
    assert (int(a.total), int(b.total)) == (2, 6)
    assert int(model.optimizer.iterations) == 3


def test_a_step_that_replaced_the_models_is_taken_and_stays(model):
    taken, own = [], model.train_step

    def train_step(batch):
        taken.append(None)
        return own(batch)

    model.train_step = train_step
    fit(model, Counts([], "a"))
    assert taken
    assert vars(model)["train_step"] is train_step


def test_a_model_may_be_compiled_in_between(model):
    a = Counts([], "a")
    for total in (6, 12):
        fit(model, a)
        model.compile(model.optimizer, "mse")
        assert int(a.total) == total
