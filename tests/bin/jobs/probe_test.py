from bin.jobs import probe


def test_stage_names():
    assert probe.stage_names(["a/step_1.weights.h5"]) == [""]
    assert probe.stage_names(["a/step_1.weights.h5", "a/step_2.weights.h5"]) == ["step_1", "step_2"]
    assert probe.stage_names(["a/w.weights.h5", "b/w.weights.h5"]) == [
        "a_w_weights_h5",
        "b_w_weights_h5",
    ]
