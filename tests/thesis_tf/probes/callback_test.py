import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.probes.callback import ProbeMonitor


@pytest.fixture
def data():
    """200 examples of 4 classes whose images are a class pattern and noise."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    patterns = rng.normal(size=(4, 8, 8, 1))
    x = patterns[y] + 0.3 * rng.normal(size=(200, 8, 8, 1))
    return x.astype("float32"), y


def convnet(**compile_arguments):
    """Returns a network with all layers that react to changes of its graph or random state."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.3, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(16, activation="relu", activity_regularizer="l2", name="fc"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Dense(4, name="logits"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-2, global_clipnorm=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_arguments,
    )
    return model


def fit(model, data, callbacks, **arguments):
    x, y = data
    arguments = {"epochs": 2, "batch_size": 32, **arguments}
    history = model.fit(
        x, y, validation_data=(x[:50], y[:50]), verbose=0, callbacks=callbacks, **arguments
    )
    return history.history


def assert_same_variables(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
def test_one_monitor_may_watch_one_model_after_another(data):
    monitor = ProbeMonitor(["conv", "fc"])
    for _ in range(2):
        fit(convnet(), data, [monitor])
        assert monitor._probes.steps == 14
        assert monitor.report().probe("fc").error < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [{}, {"steps_per_execution": 3}], ids=["plain", "three steps"])
def test_model_is_bit_identical_to_a_run_without_probes(data, compiled):
    plain, probed = convnet(**compiled), None
    history = fit(plain, data, [])
    probed = convnet(**compiled)
    probed_history = fit(probed, data, [ProbeMonitor(log_every=3)])
    # Weights, moving averages, the states of dropout layers, Adam's moments.
    assert_same_variables(plain.variables, probed.variables)
    assert_same_variables(plain.optimizer.variables, probed.optimizer.variables)
    assert history == probed_history


@pytest.mark.slow
def test_probes_learn_and_are_logged(data, tmp_path):
    monitor = ProbeMonitor(
        ["input", "relu", "logits"], reduction="flatten", log_every=4, log_dir=tmp_path
    )
    fit(convnet(), data, [monitor], epochs=20)
    assert [entry["step"] for entry in monitor.history] == list(range(4, 141, 4))
    first, last = monitor.history[0], monitor.history[-1]
    assert first["input"] > 0.1
    assert last["input"] < 0.02  # the patterns are linearly separable
    assert list(monitor.reports) == list(range(7, 141, 7))
    report = monitor.report()
    assert report.probe("input").metrics["validation"].examples == 50
    assert report.model_error["class"]["output"]["validation"].examples == 50
    tags = set()
    for file in tmp_path.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in event.summary.value}
    assert {"probe_error_train/relu", "probe_error_validation/relu"} <= tags


@pytest.mark.slow
def test_reported_weights_are_those_that_were_measured(data):
    x, y = data
    monitor = ProbeMonitor(["input"], reduction="flatten")
    model = convnet()
    fit(model, data, [monitor], epochs=5)
    probe = monitor.report().probe("input")
    logits = x[:50].reshape(50, -1) @ probe.solution.weights + probe.solution.bias
    assert np.mean(logits.argmax(1) != y[:50]) == pytest.approx(probe.metrics["validation"].error)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(y[:50], logits).numpy().mean()
    assert nats == pytest.approx(probe.metrics["validation"].cross_entropy, rel=1e-4)


def test_first_step_follows_the_analytic_gradient(data):
    x, y = (part[:32] for part in data)
    model = convnet()
    monitor = ProbeMonitor(["input"], reduction="flatten", optimizer=keras.optimizers.SGD(1.0))
    monitor.set_model(model)
    monitor.update(x, y)
    features = x.reshape(32, -1).astype("float64")
    standard = (features - features.mean(0)) / features.std(0)
    # From W = 0 all classes have probability 1/4.
    step = standard.T @ (np.eye(4)[y] - 0.25) / 32
    weights = monitor.report().probe("input").solution.weights * features.std(0)[:, np.newaxis]
    np.testing.assert_allclose(weights, step, atol=1e-5)


def test_loop_of_ones_own(data):
    x, y = data
    model, monitor = convnet(), ProbeMonitor(["relu"], reduction="flatten", log_every=2)
    monitor.set_model(model)
    before = [variable.numpy() for variable in model.variables]
    for start in range(0, 192, 32):
        monitor.update(x[start : start + 32], np.eye(4)[y[start : start + 32]])
    monitor.evaluate([(x[:50], y[:50]), (x[50:80], y[50:80])])
    assert_same_variables([tf.constant(value) for value in before], model.variables)
    assert [entry["step"] for entry in monitor.history] == [2, 4, 6]
    assert monitor.report().probe("relu").metrics["validation"].examples == 80


@pytest.mark.slow
def test_fit_without_the_monitor_gets_the_plain_step_back(data):
    model, monitor = convnet(), ProbeMonitor(["relu"], log_every=1)
    fit(model, data, [monitor])
    assert "train_step" not in vars(model)
    assert not hasattr(model.train_function, "__self__")
    seen = monitor.report().probes[0].solution.evaluations
    fit(model, data, [])
    assert monitor._probes.steps == seen


@pytest.mark.slow
def test_interrupted_fit_does_not_leave_the_probes_in_the_model(data):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model, monitor = convnet(), ProbeMonitor(["relu"])
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, [monitor, Interrupt()])
    seen = monitor._probes.steps
    assert seen == 3
    fit(model, data, [])
    assert monitor._probes.steps == seen


@pytest.mark.slow
def test_two_fits_go_on_with_the_same_probes(data):
    model, monitor = convnet(), ProbeMonitor(["relu"], log_every=7)
    fit(model, data, [monitor])
    fit(model, data, [monitor])
    assert [entry["step"] for entry in monitor.history] == [7, 14, 21, 28]


@pytest.mark.slow
def test_mirrored_probes_see_every_example(data, two_devices):
    x, y = data
    strategy = tf.distribute.MirroredStrategy(two_devices)
    with strategy.scope():
        model = convnet()
    monitor = ProbeMonitor(["input"], reduction="flatten", log_every=1)
    history = fit(model, (x[:192], y[:192]), [monitor], batch_size=32, epochs=3)
    assert history["loss"][-1] < history["loss"][0]
    assert len(monitor.history) == 18
    assert monitor.report().probe("input").metrics["train"].examples == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taps": "rleu"}, "nearest are: relu"),
        ({"reduction": "man"}, "`reduction` must be one of"),
        ({"num_classes": 1}, "`num_classes` must be at least 2. Received: 1"),
        ({"log_every": 0}, "`log_every` must be a positive integer"),
    ],
)
def test_bad_arguments_fail_before_the_first_step(data, arguments, message):
    model = convnet()
    with pytest.raises(ValueError, match=message):
        fit(model, data, [ProbeMonitor(**arguments)])
    assert int(model.optimizer.iterations.numpy()) == 0


def test_report_before_training_is_an_error():
    with pytest.raises(RuntimeError, match="has not seen any training"):
        ProbeMonitor().report()


def test_labels_are_a_function():
    with pytest.raises(TypeError, match=r"`labels` must be a function from targets to labels"):
        ProbeMonitor(labels=3)
