import json

import keras
import numpy as np
import pytest

from bin.common import training
from bin.jobs.issgd import reports
from thesis_tf import issgd


def classifier(activation=None):
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.L2(0.1)
    layer = keras.layers.Dense(3, activation, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", training.cross_entropies(model)[0])
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(25, 4)).astype("f"), RNG.integers(3, size=25)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_metrics_are_those_written_out(activation):
    model = classifier(activation)
    logits = X @ model.get_weights()[0]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, wrong = reports.Evaluator(model, batch_size=7)(X, Y)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(25), Y]).mean(), rtol=1e-5)
    np.testing.assert_array_equal(wrong, logits.argmax(1) != Y)


@pytest.mark.slow
def test_what_is_written(tmp_path):
    model, history = classifier(), issgd.History()
    report = reports.ResultWriter(tmp_path)
    variances = {"ideal": 1.0, "stale+10": 2.0}
    for step in (4, 8):
        record = issgd.Record(step=step, seconds=step / 2, loss=1.0, gradient_variances=variances)
        history.add(record)
        report.write(record)
    metrics = report.finish(model, history, (X, Y))
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {f"{n}.{s}" for n in ("training", "gradient_variance") for s in reports.SUFFIXES}
    assert {"logs", "model.keras", "metrics.json", *pictures} == names
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
