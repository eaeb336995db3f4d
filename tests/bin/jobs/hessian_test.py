import dataclasses
import types

import keras
import numpy as np
import pytest

from bin.jobs import hessian as job
from thesis_tf import hessian


def best_step(alpha, decrease):
    return hessian.BestStep(alpha, 1.0 - decrease, decrease, alpha, 1.0, 1.0, 30)


def test_a_table_of_best_steps():
    table = job.best_steps_table(np.array([-1.0, 4.0]), [best_step(-50.0, 0.3), best_step(0.0, 0)])
    rows = [row.split() for row in table.splitlines()[1:]]
    assert rows[1:] == [["4", "inf", "0"], ["-1", "-0.02", "0.3"]]


def test_steps_come_from_the_names_of_files(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    paths = [str(tmp_path / f"lenet5_step_{step:03d}.weights.h5") for step in (40, 0)]
    for path in paths:
        model.save_weights(path)
    assert job.by_step(paths, model) == {40: paths[0], 0: paths[1]}
    with pytest.raises(ValueError, match="must be existing files"):
        job.by_step([str(tmp_path / "step_1.weights.h5")], model)


@pytest.mark.parametrize(
    ("precision", "reason"),
    [("float32", "too dense. Raise --tol"), ("mixed_bfloat16", "too coarse; use float32")],
)
def test_why_eigenpairs_have_not_converged(precision, reason):
    hardware = types.SimpleNamespace(precision=precision)
    config = types.SimpleNamespace(tol=0.01, hardware=hardware)
    stages = job.Stages(config, None, None, None, True, True)
    pairs = hessian.Eigenpairs(
        np.ones(3), np.ones((5, 3)), np.ones(3), np.array([True, False, False]), 9, 3, 1
    )
    assert stages.why_not(pairs).startswith("2 eigenpairs have not converged to --tol=0.01")
    assert reason in stages.why_not(pairs)


def test_line_searches_go_to_twice_the_best_step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 2)).astype("f"), rng.normal(size=(8, 3)).astype("f")
    operator = hessian.HessianOperator(model, "mse", data, check=False)
    pairs = hessian.extreme_eigenpairs(operator, largest=1, smallest=1, verbose=0)
    steps, searches = job.along_eigenvectors(operator, pairs)
    assert [dataclasses.asdict(step)["curvature"] for step in steps] == pairs.values.tolist()
    for name, step in zip(("smallest", "largest"), steps, strict=True):
        assert searches[name].alphas[-1] == pytest.approx(2 * step.alpha)
