import json

import pytest
from absl.testing import flagsaver

from bin import dae_theory
from bin.common import runs


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theory")
    numbers = dae_theory.run(dae_theory.Config(1000, (1, 2, 3), 0), folder)
    assert json.loads((folder / "theory.json").read_text()) == numbers
    assert {path.name for path in folder.iterdir()} == {
        "theory.json",
        "wells.png",
        "wells_small.png",
    }
    return numbers


@pytest.mark.slow
def test_scores_and_curvatures(found):
    last = found["scores"][-1]
    assert last["sigma"] == 0.01
    assert max(last["rcae"], last["dae"]) < 0.02
    assert max(found["hessian"][-1][name] for name in ("rcae", "dae")) < 0.03


@pytest.mark.slow
def test_losses(found):
    best = [row["best_difference_per_sigma2"] for row in found["proposition_1"]]
    assert best == sorted(best, reverse=True)
    assert best[-1] < 1e-3 * best[0]
    other = [row["other_difference_per_sigma2"] for row in found["proposition_1"]]
    assert min(other) > 0.2


@pytest.mark.slow
def test_moments(found):
    for rows in found["local_moments"].values():
        for name in ("mass", "mean", "covariance"):
            assert rows[1][name] / rows[2][name] == pytest.approx(4, rel=0.15)


@pytest.mark.slow
def test_the_table_and_bad_flags(found):
    text = dae_theory.table(found)
    rows = [line.split() for line in text.splitlines()]
    assert [f"{found['scores'][-1][key]:.4g}" for key in ("sigma", "rcae", "dae")] in rows
    assert [row[:2] for row in rows].count(["3", "0.1"]) == 1  # dimension, delta
    with flagsaver.flagsaver(dimensions=["9"]), pytest.raises(runs.UsageError, match="from 1 to 6"):
        dae_theory.config_from_flags()


def test_help_answers_without_tensorflow(help_of):
    assert "--dimensions" in help_of("dae_theory")
