import json

import keras
import numpy as np
import pytest

from bin.jobs.issgd import config, reports
from thesis_tf import issgd


def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", config.loss())
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(25, 4)).astype("f"), RNG.integers(3, size=25)


def test_metrics_are_those_written_out():
    model = classifier()
    logits = X @ model.get_weights()[0]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = reports.evaluate(model, X, Y)
    np.testing.assert_allclose(found["loss"], -np.log(p[np.arange(25), Y]).mean(), rtol=1e-5)
    assert found["error"] == np.mean(logits.argmax(1) != Y)
    np.testing.assert_allclose(reports.logits_of(model, X, batch_size=7), logits, rtol=1e-5)


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
