import numpy as np
import pytest

from bin.jobs import probe
from thesis_tf import probes
from thesis_tf.probes.metrics import Metrics
from thesis_tf.probes.report import Probe
from thesis_tf.probes.solver.softmax_regression import Solution
from thesis_tf.probes.taps import Tap


def test_stage_names():
    assert probe.stage_names(["a/step_1.weights.h5"]) == [""]
    assert probe.stage_names(["a/step_1.weights.h5", "a/step_2.weights.h5"]) == ["step_1", "step_2"]
    assert probe.stage_names(["a/w.weights.h5", "b/w.weights.h5"]) == [
        "a_w_weights_h5",
        "b_w_weights_h5",
    ]


def report(nats, converged=True):
    none = np.zeros(0)
    solution = Solution(np.zeros((0, 10)), np.zeros(10), none, none, 1.0, 0.5, 0.1, converged, 7)
    metrics = {"test": Metrics.of(100, 0.1, nats)}
    fitted = Probe(Tap("out", (None, 10), "float32", "Dense"), "class", 10, solution, metrics)
    own = {"class": {"output": metrics}}
    return probes.ProbeReport((fitted,), own, {"class": 0.9}, (), probes.Reduction())


@pytest.mark.parametrize(
    ("nats", "trains", "names"),
    [
        ({"": 0.1}, False, []),
        ({"": 49.0}, False, [""]),
        # A network that isn't trained yet may be worse than a guess.
        ({"start": 49.0, "end": 0.1}, True, []),
        ({"start": 49.0, "end": 49.0}, True, ["end: "]),
        ({"step_1": 49.0, "step_2": 0.1}, False, ["step_1: "]),
    ],
)
def test_the_models_own_loss_counts_at_the_end_of_a_training(nats, trains, names):
    found = probe.doubts({name: report(value) for name, value in nats.items()}, trains=trains)
    assert len(found) == len(names)
    for sentence, name in zip(found, names, strict=True):
        assert sentence.startswith(f"{name}The cross-entropy of the model's output is 49 nats, far")
    unfinished = {name: report(0.1, converged=False) for name in nats}
    assert len(probe.doubts(unfinished, trains=trains)) == len(nats)
