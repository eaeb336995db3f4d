import keras
import numpy as np
import pytest

import models
from bin.common import training
from bin.common.configs import Optimization, Training
from thesis_tf import datasets


@pytest.fixture(scope="module")
def splits():
    return datasets.load("mnist_mini").take(train=200, validation=50, test=50)


def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(16),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )


def weights_after(splits, folder, how, callbacks=()):
    model = network()
    training.compile_for(model, how)
    training.train(model, splits, how, folder, callbacks=callbacks)
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


def test_what_replicas_measure_is_of_the_model_that_is_saved(tmp_path, strategy_of):
    # Each replica has a half of each batch, and batch normalization moving averages of it.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 4)).astype(np.float32) * rng.choice([0.1, 30], size=(240, 1))
    split = datasets.Split(x, (x[:, 0] > 0).astype(np.int64))
    splits = datasets.Splits(split, split, split, ("a", "b"), "mine")
    how = Training(epochs=2, batch_size=40)
    with strategy_of(2).scope():
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((4,)), layers.BatchNormalization(momentum=0.5), layers.Dense(2)]
        )
        training.compile_for(model, how)
    training.train(model, splits, how, tmp_path)
    measured = training.evaluate(model, split, 40)
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    one_by_one = keras.ops.convert_to_numpy(saved(x, training=False)).astype(np.float64)
    logs = one_by_one - np.logaddexp.reduce(one_by_one, axis=1, keepdims=True)
    assert measured["loss"] == pytest.approx(-logs[np.arange(240), split.y].mean(), rel=1e-5)
    assert measured["accuracy"] == pytest.approx((one_by_one.argmax(axis=1) == split.y).mean())


class Killed(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch, self.seen = batch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.batch:
            raise Killed


def test_every_example_once_an_epoch_in_another_order_each(splits):
    steps, seen = 200 // 50, []
    for step, (x, y) in enumerate(training.batches(splits.train, 50, 7, 0).as_numpy_iterator()):
        if step == 2 * steps:
            break
        # The sum of the pixels and the label distinguish most examples.
        seen += list(zip(x.reshape(50, -1).sum(1), y, strict=True))
    whole = sorted(zip(splits.train.x.reshape(200, -1).sum(1), splits.train.y, strict=True))
    assert sorted(seen[:200]) == sorted(seen[200:]) == whole
    assert seen[:200] != seen[200:]
    assert seen[:200] != whole


def test_batches_from_any_step_are_those_of_the_whole_stream(splits):
    whole = training.batches(splits.train, 32, 1, 0).take(15).as_numpy_iterator()
    late = training.batches(splits.train, 32, 1, 9).take(6).as_numpy_iterator()
    for (x, y), (late_x, late_y) in zip(list(whole)[9:], late, strict=True):
        np.testing.assert_array_equal(x, late_x)
        np.testing.assert_array_equal(y, late_y)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 5, 6, 7, 11], ids=lambda n: f"after step {n}")
def test_resumed_run_ends_with_the_same_weights(splits, tmp_path, kill_at):
    how = Training(epochs=2, batch_size=32, checkpoint_every=5)  # 6 steps per epoch
    whole = weights_after(splits, tmp_path / "whole", how)
    with pytest.raises(Killed):
        weights_after(splits, tmp_path / "killed", how, [KillAt(kill_at)])
    resumed = weights_after(splits, tmp_path / "killed", how)
    # Weights, moving averages, the state of the dropout, Adam's moments and step.
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_finished_run_is_left_alone_and_a_longer_one_goes_on(splits, tmp_path):
    weights_after(splits, tmp_path, Training(epochs=1, batch_size=32))
    again = weights_after(splits, tmp_path, Training(epochs=1, batch_size=32), [KillAt(1)])
    longer = weights_after(splits, tmp_path, Training(epochs=3, batch_size=32))
    whole = weights_after(splits, tmp_path / "whole", Training(epochs=3, batch_size=32))
    assert any((a != b).any() for a, b in zip(again, longer, strict=True))
    for one, other in zip(longer, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_snapshot_after_the_last_step_is_refused(splits, tmp_path):
    how = Training(epochs=1, batch_size=32, snapshots=(0, 10_000))
    steps = training.steps_an_epoch(splits, how)
    with pytest.raises(
        ValueError, match=rf"`snapshots` must be at most the {steps} steps .* Received: 10000"
    ):
        weights_after(splits, tmp_path, how)
    assert not list(tmp_path.iterdir())


def test_snapshots_are_the_weights_of_their_steps(splits, tmp_path):
    how = Training(epochs=2, batch_size=32, snapshots=(0, 3, 12))
    weights_after(splits, tmp_path, how)
    names = sorted(path.name for path in tmp_path.glob("step_*"))
    assert names == [training.snapshot_name(step) for step in (0, 3, 12)]
    initial, model = network().get_weights(), network()
    model.load_weights(tmp_path / training.snapshot_name(0))
    for one, other in zip(initial, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batch_larger_than_the_data(splits, tmp_path):
    with pytest.raises(ValueError, match="at most the 200 training examples"):
        weights_after(splits, tmp_path, Training(epochs=1, batch_size=201))


@pytest.mark.parametrize(
    ("name", "momentum", "kind"),
    [
        ("adam", 0.0, keras.optimizers.Adam),
        ("rmsprop", 0.0, keras.optimizers.RMSprop),
        ("sgd", 0.0, keras.optimizers.SGD),
        ("sgd", 0.95, keras.optimizers.SGD),
    ],
)
def test_optimizers(name, momentum, kind):
    settings = Optimization(optimizer=name, learning_rate=0.25)
    found = training.optimizer_for(settings, momentum=momentum)
    assert type(found) is kind
    assert float(found.learning_rate) == 0.25
    if kind is keras.optimizers.SGD:
        assert (found.momentum, found.nesterov) == (momentum, momentum > 0)
    assert float(training.optimizer_for(settings, 0.5).learning_rate) == 0.5
    decay = keras.optimizers.schedules.ExponentialDecay(0.125, 10, 0.5)
    assert float(training.optimizer_for(settings, decay).learning_rate) == 0.125


@pytest.mark.slow
def test_auxiliary_head_counts_less(splits):
    model = models.build("inception_v3", (28, 28, 1), 10, image_size=75, auxiliary_head=True)
    training.compile_for(model, Training(epochs=1))
    logs = training.evaluate(model, splits.test, 50)
    main, auxiliary = logs["predictions_loss"], logs["aux_predictions_loss"]
    assert logs["loss"] == pytest.approx(main + 0.4 * auxiliary, rel=1e-4)
