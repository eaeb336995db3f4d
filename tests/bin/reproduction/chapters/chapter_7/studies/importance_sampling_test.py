import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7.studies import importance_sampling
from bin.reproduction.engine.contract import Sources

TINY = importance_sampling.Config(
    examples=(256, 64, 64), units=(16,), steps=8, refresh_every=4, evaluate_every=4, runs=2
)


@pytest.fixture(scope="module")
def found():
    return importance_sampling.compared(TINY)


@pytest.mark.slow
def test_both_methods_are_followed_from_the_same_network(found):
    assert found["label"] == "8,100 MNIST digits, learning rate 0.01, smoothing +10"
    assert found["examples"] == {"train": 256, "test": 64}
    assert found["steps"].tolist() == [0, 4, 8]
    uniform, importance = (found["curves"][method] for method in importance_sampling.METHODS)
    for curves in (uniform, importance):
        assert {name: curve.shape for name, curve in curves.items()} == dict.fromkeys(
            ("seconds", *importance_sampling.MEASURED), (2, 3)
        )
        assert (np.diff(curves["seconds"], axis=1) > 0).all()
    assert (uniform["loss"][:, 0] == importance["loss"][:, 0]).all()
    assert (uniform["loss"][:, 2] != importance["loss"][:, 2]).all()
    # Each run has a different network.
    assert uniform["loss"][0, 0] != uniform["loss"][1, 0]


@pytest.mark.slow
def test_variances_are_of_every_refresh_but_the_first_and_exact(found):
    variances = found["gradient_variances"]
    assert variances["steps"].tolist() == [4, 8]
    assert set(variances) == {
        "steps", "ideal", "stale", "uniform", "actual", "stale+10", "stale+1"
    }  # fmt: skip
    assert variances["ideal"].shape == (2, 2)
    assert (variances["ideal"] < variances["uniform"]).all()
    np.testing.assert_allclose(variances["actual"], variances["stale+10"], rtol=1e-6)
    assert found["order"]["evaluations"] == 4


@pytest.mark.slow
def test_when_the_loss_of_uniform_draws_is_reached(found):
    uniform, importance = (found["curves"][m]["loss"] for m in importance_sampling.METHODS)
    for run, step in enumerate(found["arrived"]):
        reached = found["steps"][importance[run] <= uniform[run, -1]]
        assert step == (reached[0] if len(reached) else None)


@pytest.mark.slow
def test_another_seed_gives_other_runs_and_the_same_seed_the_same(found):
    one = dataclasses.replace(TINY, runs=1, steps=4)
    again, other = (
        importance_sampling.compared(one.settled(Sources(), seed))["curves"]["importance"]["loss"]
        for seed in (0, 1)
    )
    assert again[0].tolist() == found["curves"]["importance"]["loss"][0, :2].tolist()
    assert (other != again).all()


def test_more_runs_do_not_stand_for_more_test_examples():
    # In all runs, importance sampling classifies one of four examples correctly that uniform draws
    # don't.
    wrong = np.array([[True] * 4, [True, True, False, False]])
    better = wrong.copy()
    better[1, 0] = False
    expected = np.std([1, 0, 0, 0], ddof=1) / 2
    for runs in (1, 5):
        mistakes = {"uniform": [wrong] * runs, "importance": [better] * runs}
        assert importance_sampling._errors_of_examples(mistakes) == {
            "while_training": pytest.approx(expected),
            "at_the_end": pytest.approx(expected),
        }


def test_the_first_data_set_that_is_there_is_used(tmp_path):
    config = dataclasses.replace(TINY, datasets=("svhn", "cifar10"), smoothing="relative:0.3")
    config = config.settled(Sources(data_dir=str(tmp_path)), 0)
    (tmp_path / "cifar10.npz").touch()
    assert config.label() == "CIFAR-10, learning rate 0.01, smoothing +0.3 of the mean"
    for split in ("train", "test"):
        (tmp_path / f"{split}_32x32.mat").touch()
    assert config.dataset() == "svhn"
