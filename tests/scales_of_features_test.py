"""Features of unusual scale: frozen, live and exported probes, compared with scikit-learn."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from thesis_tf import probes
from thesis_tf.probes.features.shards import Column, ShardWriter, make_header, shard_name
from thesis_tf.probes.features.store import FeatureStore
from thesis_tf.probes.reductions import Reduction
from thesis_tf.probes.taps import Tap

RNG = np.random.default_rng(0)
TRAIN, REST, CLASSES, SIZE, L2 = 400, 200, 4, 20, 1e-2
Y = RNG.integers(0, CLASSES, TRAIN + REST)
F = 0.5 * RNG.normal(size=(CLASSES, SIZE))[Y] + RNG.normal(size=(len(Y), SIZE))
LARGE = 100 * RNG.normal(size=(len(Y), 15))
BEYOND = float(1 << 25)  # integers beyond which float32 has even numbers only

# {name: features in float64}; those of a store are of float32.
FEATURES = {
    "plain": F,
    "times 1e-25": 1e-25 * F,
    "times 1e-30": 1e-30 * F,
    "times 1e30": 1e30 * F,
    "times 1e36": 1e36 * F,
    "plus 1e4": F + 1e4,
    "plus 1e6": F + 1e6,
    "plus 1e7": F + 1e7,
    "minus 1e6, times 1e-20": 1e-20 * (F - 1e6),
    "small beside large": np.hstack([1e-3 * F[:, :5], LARGE]),
    "tiny beside large": np.hstack([1e-20 * F[:, :5], LARGE]),
    "each in its unit": F * 10.0 ** np.linspace(-30, 30, SIZE),
    "one constant": np.hstack([F, np.full((len(Y), 1), 3.3)]),
    "constants of all sizes": np.hstack([F, np.tile([0.0, 1e-30, -1e5, 1e30], (len(Y), 1))]),
    "each twice": np.hstack([F, F]),
    "whole numbers beyond 2^24": np.round(10 * F) + BEYOND,
    "zeros and ones": (F > 0).astype("float64"),
    "one example in a hundred": F * (np.arange(len(Y)) % 100 == 0)[:, None],
    "a step of rounding": np.hstack([F, 1 + 2.0**-23 * (F[:, :3] > 0)]),
}
CONSTANT = {"one constant": 1, "constants of all sizes": 4}


def store_of(folder, x, dtype="float32"):
    tap = Tap("f", (None, x.shape[1]), dtype, "Dense")
    column = Column(tap, x.shape[1], dtype, "0.npy", prediction=False)
    header = make_header([column], Reduction("flatten"), model="m", data="d")
    with ShardWriter(folder / shard_name(0, 1), header) as writer:
        writer.append([x.astype(dtype)])
        writer.finish()
    return FeatureStore(folder)


def fitted(folder, x, dtype="float32", tol=1e-7):
    store = store_of(folder, x, dtype)
    splits = {"train": slice(TRAIN), "test": slice(TRAIN, None)}
    return probes.fit_probes(store, Y, splits, l2=L2, tol=tol, verbose=0)


def of_scikit_learn(x):
    """Returns log probabilities of the test examples, in float64."""
    x = x[:, np.ptp(x[:TRAIN], axis=0) > 0]
    z = StandardScaler().fit(x[:TRAIN]).transform(x)
    model = LogisticRegression(C=1 / (L2 * TRAIN), tol=1e-9, max_iter=10000)
    model.fit(z[:TRAIN], Y[:TRAIN])
    # No example of training is farther out, but those of test may be.
    return model.predict_log_proba(np.clip(z[TRAIN:], -(TRAIN**0.5), TRAIN**0.5))


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frozen_probes_are_those_of_scikit_learn(name, dtype, tmp_path):
    x = FEATURES[name].astype(dtype).astype("float64")
    report = fitted(tmp_path, x, dtype)
    (probe,) = report.probes
    assert probe.solution.converged
    wanted = of_scikit_learn(x)
    found = log_softmax(probe.solution.logits(x[TRAIN:].astype(dtype)).numpy().astype("float64"))
    # The loss is l2-strongly convex: weights are within sqrt(2 tol / l2) = .0045 of the best, and
    # the logits of z, whose norm is at most about sqrt(40), within .03.
    np.testing.assert_allclose(found, wanted, atol=0.06)
    nats = -wanted[np.arange(REST), Y[TRAIN:]].mean()
    assert probe.metrics["test"].cross_entropy == pytest.approx(nats, abs=0.01)
    assert probe.error == pytest.approx((wanted.argmax(1) != Y[TRAIN:]).mean(), abs=0.011)
    assert probe.solution.left_out == CONSTANT.get(name, 0)
    assert report.summary()["class"]["left_out"] == (
        {"f": CONSTANT[name]} if name in CONSTANT else {}
    )
    assert ("left out" in report.table()) == (name in CONSTANT)


@pytest.mark.parametrize("name", FEATURES)
def test_exported_probes_are_the_fitted_ones(name, tmp_path):
    x = FEATURES[name].astype("float32")
    report = fitted(tmp_path / "store", x)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Identity(name="f")])
    report.save(tmp_path / "report")
    report = probes.ProbeReport.load(tmp_path / "report")
    (probe,) = report.probes
    exact = probe.solution
    z = np.where(np.isinf(exact.scale), 0, (x.astype("float64") - exact.mean) / exact.scale)
    z = np.clip(z, -exact.limit, exact.limit)
    wanted = z @ exact.standardized_weights + exact.standardized_bias
    probes.export(model, report, tmp_path / "model")
    probes.export_probes(report, tmp_path / "probes")
    # 41 products of float32 numbers.
    close = {
        "rtol": 1e-5,
        "atol": 41 * 2**-24 * abs(z).max() * abs(exact.standardized_weights).max(),
    }
    for folder, argument in (("model", "inputs"), ("probes", "f")):
        loaded = tf.saved_model.load(str(tmp_path / folder))
        found = loaded.signatures["probes"](**{argument: tf.constant(x)})["f"]
        np.testing.assert_allclose(found, wanted, **close)
    # The affine map of raw features is the same in float64, where nothing is clipped.
    inside = abs(z).max(1) < exact.limit
    affine = x.astype("float64") @ exact.weights + exact.bias
    np.testing.assert_allclose(affine[inside], wanted[inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_live_probes_agree_with_plain_gradient_steps_on_standardized_features(name):
    x = FEATURES[name].astype("float32")
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(
        inputs, keras.layers.Dense(CLASSES)(keras.layers.Identity(name="f")(inputs))
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    steps, rate = 60, 0.1
    monitor = probes.ProbeMonitor("f", optimizer=keras.optimizers.SGD(rate), log_every=1000)
    monitor.set_model(model)
    for _ in range(steps):
        monitor.update(x[:TRAIN], Y[:TRAIN])
    monitor.evaluate([(x[TRAIN:], Y[TRAIN:])])
    report = monitor.report()
    solution = report.probes[0].solution
    scaler = StandardScaler().fit(x[:TRAIN].astype("float64"))
    np.testing.assert_allclose(solution.mean, scaler.mean_, rtol=1e-12)
    constant = scaler.var_ == 0
    constant |= np.ptp(x[:TRAIN], axis=0) == 0
    np.testing.assert_allclose(solution.scale, np.where(constant, np.inf, scaler.scale_), rtol=1e-9)
    assert solution.left_out == CONSTANT.get(name, 0)
    z = np.where(constant, 0, scaler.transform(x.astype("float64")))
    weights, bias, one_hot = np.zeros((x.shape[1], CLASSES)), np.zeros(CLASSES), np.eye(CLASSES)[Y]
    for _ in range(steps):
        slope = np.exp(log_softmax(z[:TRAIN] @ weights + bias)) - one_hot[:TRAIN]
        weights -= rate * z[:TRAIN].T @ slope / TRAIN
        bias -= rate * slope.mean(0)
    np.testing.assert_allclose(solution.standardized_weights, weights, rtol=1e-4, atol=1e-5)
    found = log_softmax(z[TRAIN:] @ weights + bias)
    measured = report.probes[0].metrics["validation"]
    nats = -found[np.arange(REST), Y[TRAIN:]].mean()
    assert measured.cross_entropy == pytest.approx(nats, rel=1e-4)
    assert measured.error == pytest.approx((found.argmax(1) != Y[TRAIN:]).mean(), abs=0.006)


def test_live_probes_on_one_example_at_a_time():
    # The variance is that between batches: within a batch of one there is none.
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(CLASSES)])
    monitor = probes.ProbeMonitor("input", optimizer=keras.optimizers.SGD(0.0))
    monitor.set_model(model)
    for i in range(50):
        monitor.update(F[i : i + 1].astype("float32"), Y[i : i + 1])
    solution = monitor.report().probes[0].solution
    np.testing.assert_allclose(solution.mean, F[:50].astype("float32").mean(0), atol=1e-6)
    np.testing.assert_allclose(solution.scale, F[:50].std(0), rtol=1e-5)


def test_features_that_are_not_finite_are_wrong_and_train_nothing():
    x = F.astype("float32").copy()
    broken = np.arange(len(x)) % 5 == 0
    x[broken, 3] = np.where(np.arange(broken.sum()) % 2, np.nan, np.inf)
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(CLASSES)])
    found = []
    for part in (slice(None), ~broken):
        monitor = probes.ProbeMonitor("input", optimizer=keras.optimizers.SGD(0.5))
        monitor.set_model(model)
        for _ in range(5):
            monitor.update(x[part], Y[part])
        monitor.evaluate([(x, Y)])
        found.append(monitor.report().probes[0])
    for name in ("standardized_weights", "mean", "scale"):
        a, b = (getattr(probe.solution, name) for probe in found)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert found[0].error >= broken.mean()
    assert np.isnan(found[0].metrics["validation"].cross_entropy)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, TRAIN])
def test_frozen_probes_refuse_features_that_are_not_finite(value, row, tmp_path):
    x = F.copy()
    x[row, 2] = value
    with pytest.raises(ValueError, match=r"[Tt]ap 'f'.*finite"):
        fitted(tmp_path, x)


def test_fewer_examples_than_features(tmp_path):
    wide = np.hstack([F, RNG.normal(size=(len(Y), 600)) * 1e-6 + 1e3])
    store = store_of(tmp_path, wide.astype("float32"))
    splits = {"train": np.arange(30), "test": np.arange(30, 60)}
    (probe,) = probes.fit_probes(store, Y, splits, l2=1.0, tol=1e-6, verbose=0).probes
    x = wide[:60].astype("float32").astype("float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaler = StandardScaler().fit(x[:30])
    model = LogisticRegression(C=1 / 30, tol=1e-9, max_iter=10000)
    model.fit(scaler.transform(x[:30]), Y[:30])
    z = probe.solution.logits(x[30:].astype("float32")).numpy()
    wanted = model.predict_log_proba(scaler.transform(x[30:]))
    present = np.unique(Y[:30])
    np.testing.assert_allclose(log_softmax(z.astype("float64")[:, present]), wanted, atol=0.05)
