import dataclasses
import types

import keras
import numpy as np
import pytest

from bin.common import runs
from bin.common.configs import Data, Hardware, Model, Training
from bin.hessian import Config
from bin.jobs import hessian as job
from thesis_tf import hessian


def best_step(alpha, decrease):
    return hessian.BestStep(alpha, 1.0 - decrease, decrease, alpha, 1.0, 1.0, 30)


def test_a_table_of_best_steps():
    table = job.best_steps_table(np.array([-1.0, 4.0]), [best_step(-50.0, 0.3), best_step(0.0, 0)])
    rows = [row.split() for row in table.splitlines()[1:]]
    assert rows[1:] == [["4", "inf", "0"], ["-1", "-0.02", "0.3"]]


@pytest.mark.parametrize(
    ("precision", "reason"),
    [("float32", "too dense. Raise --tol"), ("mixed_bfloat16", "too coarse; use float32")],
)
def test_why_eigenpairs_have_not_converged(precision, reason):
    hardware = types.SimpleNamespace(precision=precision)
    config = types.SimpleNamespace(tol=0.01, hardware=hardware)
    pairs = hessian.Eigenpairs(
        np.ones(3), np.ones((5, 3)), np.ones(3), np.array([True, False, False]), 9, 3, 1
    )
    said = job.why_not(pairs, config)
    assert said.startswith("2 of 3 eigenpairs have not converged to --tol=0.01")
    assert reason in said


def test_steps_whose_eigenpairs_have_not_converged():
    entries = [
        hessian.SpectrumEntry(step, 1.0, (2.0,), (), converged, 9)
        for step, converged in ((0, True), (10, False), (20, False))
    ]
    said = []
    job.warn_of_steps(hessian.SpectrumHistory(entries), types.SimpleNamespace(tol=0.1), said.append)
    assert said == ["At 2 of 3 steps (10, 20) eigenpairs have not converged to --tol=0.1."]
    job.warn_of_steps(hessian.SpectrumHistory(entries[:1]), None, said.append)
    assert len(said) == 1


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


def config(**changes):
    return Config(Data(), Model("mlp"), Hardware(), Training(epochs=0), **changes)


def splits_of(x, y):
    return types.SimpleNamespace(train=types.SimpleNamespace(x=x, y=y))


def test_a_subset_is_a_number_or_a_fraction_of_the_examples():
    splits = splits_of(np.arange(300), np.arange(300) + 1)
    for subset, count in ((60, 60), (0.5, 150), (1, 300), (1000, 300)):
        x, y = job.subset_of(config(subset=subset), splits)
        assert len(set(x.tolist())) == count
        np.testing.assert_array_equal(y, x + 1)
    with pytest.raises(runs.UsageError, match="--subset is all of the 300 examples"):
        job.subset_of(config(subset=300, compare_subset=True), splits)


def test_operators_of_the_subset_and_of_all_examples():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(loss="mse")
    x, y = np.random.default_rng(0).normal(size=(2, 8, 2)).astype("f")
    y = y[:, :1]
    few = {"largest": 1, "smallest": 0, "check": False}
    operator, full = job.operators(config(**few), model, (x[:3], y[:3]), splits_of(x, y))
    assert full is None
    # The Hessian of the mean of (w'x - y)^2 is 2 X'X / n.
    np.testing.assert_allclose(operator @ np.eye(2), 2 * x[:3].T @ x[:3] / 3, rtol=1e-5)
    compared = config(**few, compare_subset=True, compared=(1, 0))
    _, full = job.operators(compared, model, (x[:3], y[:3]), splits_of(x, y))
    np.testing.assert_allclose(full @ np.eye(2), 2 * x.T @ x / 8, rtol=1e-5)
    for many in (config(largest=1, smallest=1), dataclasses.replace(compared, compared=(1, 1))):
        with pytest.raises(runs.UsageError, match="2 eigenvalues are requested of a matrix of 2"):
            job.operators(many, model, (x[:3], y[:3]), splits_of(x, y))
