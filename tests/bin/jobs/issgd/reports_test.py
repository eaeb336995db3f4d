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


def history(*rows):
    """Returns the history of (step, whether draws are uniform, staleness, peer)."""
    made = issgd.History()
    for step, uniform, staleness, peer in rows:
        made.add(
            issgd.Record(
                step,
                loss=1.0,
                seconds=1.0,
                uniform=uniform,
                staleness=staleness,
                exchanged_with=peer,
            )
        )
    return made


@pytest.mark.parametrize(
    ("doubt", "rows", "expected"),
    [
        ("uniform_draws", [(4, True, None, None), (8, True, None, None)], "All draws were uniform"),
        ("uniform_draws", [(4, True, None, None), (8, False, None, None)], None),
        ("uniform_draws", [(6, True, None, None), (8, False, None, None)], "In 75% of the steps"),
        ("uniform_draws", [(4, None, None, None)], None),  # uniform draws were asked for
        ("uniform_draws", [], None),
        (
            "stale_norms",
            [(50, False, 25.0, None), (100, False, 60.0, None)],
            "were 60 of 100 steps",
        ),
        ("stale_norms", [(50, False, 40.0, None), (100, False, 50.0, None)], None),
        ("stale_norms", [(100, True, None, None)], None),
        ("stale_norms", [], None),
        ("lonely", [(4, True, None, None), (8, False, None, None)], "This peer trained alone"),
        ("lonely", [(4, True, None, None), (8, False, None, "b")], None),
        ("lonely", [], None),
    ],
)
def test_what_a_training_did_not_do(doubt, rows, expected):
    made = history(*rows)
    said = getattr(reports, doubt)([made] if doubt == "uniform_draws" else made)
    assert len(said) == (expected is not None)
    assert all(expected in sentence for sentence in said)


def test_doubts_are_passed_on_and_in_the_pictures(tmp_path, said_in_pictures):
    made, said = history((4, True, None, None)), []
    model = classifier()
    model.set_weights([np.zeros((4, 3)), np.zeros(3)])  # always class 0
    labels = np.arange(25) % 3
    reports.ResultWriter(tmp_path).finish(
        model, made, (X, labels), doubts=["R-hat 5."], warn=said.append
    )
    guess = "The network is no better than a guess: accuracy 0.3600 on test examples"
    assert said[0] == "R-hat 5."
    assert said[1].startswith(guess)
    assert len(said) == 2
    for suffix in reports.SUFFIXES:
        assert "R-hat 5." in said_in_pictures[f"training.{suffix}"]
        assert guess in said_in_pictures[f"training.{suffix}"]
