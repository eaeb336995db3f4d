import types

import numpy as np
import pytest

from bin.jobs import probe
from thesis_tf import datasets


@pytest.fixture
def splits(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "toy.npz"
    np.savez(path, x_train=rng.normal(size=(30, 2)), y_train=np.arange(30) % 3)
    return datasets.load(path)


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


def test_factors_come_in_the_order_of_the_stacked_examples(splits, tmp_path):
    np.savez(tmp_path / "factors.npz", row_train=np.arange(30))
    found = probe.factors(str(tmp_path / "factors.npz"), splits)
    x, y, _ = splits.stacked()
    assert list(found) == ["row"]
    np.testing.assert_array_equal(found["row"] % 3, y)
    assert sorted(found["row"]) == list(range(30))
    assert len(x) == 30


@pytest.mark.parametrize("spelling", ["validation", "valid", "val"])
def test_spellings_of_the_validation_split(tmp_path, spelling):
    arrays = {"x_train": np.eye(4), "y_train": np.arange(4) % 2}
    held_out = {"x_test": np.eye(4), "y_test": np.arange(4) % 2}
    held_out |= {"x_validation": np.eye(4), "y_validation": np.arange(4) % 2}
    np.savez(tmp_path / "data.npz", **arrays, **held_out)
    names = ("train", spelling, "test")
    np.savez(tmp_path / "f.npz", **{f"f_{name}": np.full(4, i) for i, name in enumerate(names)})
    found = probe.factors(str(tmp_path / "f.npz"), datasets.load(tmp_path / "data.npz"))
    np.testing.assert_array_equal(found["f"], np.repeat([0, 1, 2], 4))


def test_other_arrays_are_an_error(splits, tmp_path):
    np.savez(tmp_path / "factors.npz", row_dev=np.arange(30))
    with pytest.raises(ValueError, match=r"FACTOR_train.*Received: row_dev"):
        probe.factors(str(tmp_path / "factors.npz"), splits)


def test_stage_names():
    assert probe.stage_names(["a/step_1.weights.h5"]) == [""]
    assert probe.stage_names(["a/step_1.weights.h5", "a/step_2.weights.h5"]) == ["step_1", "step_2"]
    assert probe.stage_names(["a/w.weights.h5", "b/w.weights.h5"]) == [
        "a_w_weights_h5",
        "b_w_weights_h5",
    ]
