import types

import numpy as np

from bin.jobs import probe


def test_fits_that_have_not_converged():
    def fitted(name, suboptimality):
        return types.SimpleNamespace(
            tap=types.SimpleNamespace(name=name),
            solution=types.SimpleNamespace(suboptimality=suboptimality),
        )

    fits = [fitted("a", 1e-4), fitted("b", 0.5), fitted("c", 0.02), fitted("live", np.inf)]
    said = probe.not_converged(types.SimpleNamespace(probes=fits), 1e-3, "end")
    assert said.startswith("2 of 4 probes of end have not converged to --suboptimality=0.001, the")
    assert "the worst at b (0.5)" in said
    assert probe.not_converged(types.SimpleNamespace(probes=fits[:1]), 1e-3) is None


def test_stage_names():
    assert probe.stage_names(["a/step_1.weights.h5"]) == [""]
    assert probe.stage_names(["a/step_1.weights.h5", "a/step_2.weights.h5"]) == ["step_1", "step_2"]
    assert probe.stage_names(["a/w.weights.h5", "b/w.weights.h5"]) == [
        "a_w_weights_h5",
        "b_w_weights_h5",
    ]
