"""Live probes on 1, 2 and 4 devices, compared with NumPy and with one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import probes

OPTIMIZED_GRAPHS = True

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 4)).astype("float32")
Y = RNG.integers(0, 3, 22)
WEIGHTS = RNG.normal(size=(4, 3)).astype("float32")

# {name: (examples, numbers of devices, arguments of `fit`, arguments of `compile`)}. Keras itself
# needs a first batch that divides among the replicas; the last ones are of 3 examples, or 2.
CASES = {
    "batches smaller than the replicas": (11, (2, 4), {"batch_size": 4, "epochs": 2}, {}),
    "sample weights, and several steps a call": (
        22,
        (2,),
        {"batch_size": 4, "sample_weight": np.arange(22.0)},
        {"steps_per_execution": 3},
    ),
    "class weights, eagerly": (
        22,
        (2,),
        {"batch_size": 8, "class_weight": {0: 3.0, 1: 0.1, 2: 1.0}},
        {"run_eagerly": True},
    ),
}


def model_of(**compiled):
    """Returns a model that doesn't change in training, whose outputs are not the probes'."""
    layers, inputs = keras.layers, keras.Input((4,))
    far = layers.Rescaling(1e-3, offset=1e3, name="far")(inputs)
    logits = layers.Dense(3, use_bias=False, name="logits")(inputs)
    unused = layers.Dense(3, use_bias=False, kernel_initializer="zeros")(far)
    model = keras.Model(inputs, layers.Add()([logits, unused]))
    model.get_layer("logits").kernel.assign(WEIGHTS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"], **compiled)
    return model


def monitored(strategy, case, labels=Y, monitors=1):
    examples, _, arguments, compiled = CASES[case]
    with strategy.scope():
        model = model_of(**compiled)
    found = [
        probes.ProbeMonitor("far", log_every=2, optimizer=keras.optimizers.SGD(0.5))
        for _ in range(monitors)
    ]
    x, y = X[:examples], labels[:examples]
    history = model.fit(
        x, y, validation_data=(X, labels), shuffle=False, verbose=0, callbacks=found, **arguments
    )
    return found, history.history, model


def numbers(monitor):
    """Returns all that a monitor found, as {name: array}."""
    report = monitor.report()
    values = {"history": [list(entry.values()) for entry in monitor.history]}
    values["steps"] = list(monitor.reports)
    for probe in report.probes:
        solution = probe.solution
        for name in ("standardized_weights", "standardized_bias", "mean", "scale"):
            values[f"{probe.tap.name} {name}"] = getattr(solution, name)
        for split, m in probe.metrics.items():
            values[f"{probe.tap.name} {split}"] = [m.examples, m.error, m.cross_entropy]
    return values | {"chance": report.chance["class"]}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_devices_find_the_same(case, strategy_of):
    (alone,), *_ = monitored(strategy_of(1), case)
    wanted = numbers(alone)
    for devices in CASES[case][1]:
        (monitor,), history, model = monitored(strategy_of(devices), case)
        np.testing.assert_array_equal(model.get_layer("logits").kernel.numpy(), WEIGHTS)
        found = numbers(monitor)
        assert found.keys() == wanted.keys()
        for name, value in found.items():
            # Sums of float32 gradients in another order, over at most 12 steps.
            np.testing.assert_allclose(value, wanted[name], 1e-5, 1e-6, err_msg=name)
        own = monitor.report().model_error["class"]["output"]["validation"]
        assert own.examples == 22
        assert own.error == pytest.approx(1 - history["val_accuracy"][-1], abs=1e-6)
        logits = X @ WEIGHTS
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits).numpy().mean()
        assert own.cross_entropy == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_a_loop_of_ones_own_divides_batches(devices, strategy_of):
    found = []
    for strategy in (strategy_of(1), strategy_of(devices)):
        with strategy.scope():
            model = model_of()
        monitor = probes.ProbeMonitor("far", optimizer=keras.optimizers.SGD(0.5))
        monitor.set_model(model)
        for rows in (slice(3), slice(3, 4), slice(4, 11)):
            monitor.update(X[rows], Y[rows])
        monitor.evaluate([(X[:5], Y[:5]), (X[5:6], Y[5:6])])
        found.append(numbers(monitor))
    assert found[0]["far validation"][0] == 6
    for name, value in found[1].items():
        np.testing.assert_allclose(value, found[0][name], 1e-5, 1e-6, err_msg=name)


@pytest.mark.slow
def test_two_monitors_are_as_each_alone(strategy_of):
    case = "batches smaller than the replicas"
    (alone,), history, _ = monitored(strategy_of(1), case)
    several, together, _ = monitored(strategy_of(1), case, monitors=2)
    assert together == history
    for monitor in several:
        found, wanted = numbers(monitor), numbers(alone)
        for name, value in found.items():
            np.testing.assert_array_equal(value, wanted[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "ignored"), [(1, 255), (2, -1)])
def test_labels_outside_the_classes_are_left_out(devices, ignored, strategy_of):
    labels = np.where(np.arange(22) % 3 == 0, ignored, Y)
    keep = labels == Y
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
    with strategy_of(devices).scope():
        model = model_of()
        model.compile(keras.optimizers.SGD(0.0), loss)
    monitor = probes.ProbeMonitor(["input"], optimizer=keras.optimizers.SGD(0.5))
    with pytest.warns(UserWarning, match=r"leave out \d+ of (22 validation|66 train) examples"):
        model.fit(
            X, labels, batch_size=22, epochs=3, verbose=0, validation_data=(X, labels),
            callbacks=[monitor],
        )  # fmt: skip
    other = model_of()
    alone = probes.ProbeMonitor(["input"], optimizer=keras.optimizers.SGD(0.5))
    other.fit(
        X[keep], Y[keep], batch_size=22, epochs=3, verbose=0,
        validation_data=(X[keep], Y[keep]), callbacks=[alone],
    )  # fmt: skip
    report = monitor.report()
    assert report.unlabeled == {"validation": 8, "train": 24}
    assert report.summary()["class"]["unlabeled"] == report.unlabeled
    found, wanted = numbers(monitor), numbers(alone)
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], 1e-5, 1e-6, err_msg=name)
