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


def pairs(*converged):
    k = len(converged)
    return hessian.Eigenpairs(
        np.arange(k), np.ones((5, k)), np.arange(k) / 10, np.array(converged), 9, k, 1
    )


def entries(*converged):
    return hessian.SpectrumHistory(
        tuple(
            hessian.SpectrumEntry(10 * n, 1.0, (2.0,), (), good, 9)
            for n, good in enumerate(converged)
        )
    )


def compared(full, subset):
    none = hessian.SpectrumDifference(*[np.zeros(0)] * 5)
    return hessian.SubsetComparison(none, none, full, subset)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (pairs(True, True), []),
        (pairs(True, False, False), ["2 of 3 eigenpairs have not converged: |Hv - lambda v| is up"
                                     " to 0.2."]),
        (entries(True), []),
        (entries(True, False, False), ["At 2 of 3 steps (10, 20) eigenpairs have not converged."]),
        (compared(pairs(True), pairs(True)), []),
        (compared(pairs(False), pairs(True, False)), [
            "Of all data, 1 of 1 eigenpairs have not converged: |Hv - lambda v| is up to 0.",
            "Of the subset, 1 of 2 eigenpairs have not converged: |Hv - lambda v| is up to 0.1.",
        ]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("precision", "advice"),
    [("float32", "for --tol=0.01: raise it."), ("mixed_bfloat16", "too coarse; use float32.")],
)
def test_what_has_not_converged_is_passed_on_with_advice(result, said, precision, advice):
    hardware, heard = types.SimpleNamespace(precision=precision), []
    job.warn_of(result, types.SimpleNamespace(tol=0.01, hardware=hardware), heard.append)
    assert len(heard) == len(said)
    for found, expected in zip(heard, said, strict=True):
        assert found.startswith(expected)
        assert found.endswith(advice)
        assert expected in result.table().splitlines()


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
