import json

import pytest

from bin.dae_theory import Config
from bin.jobs import dae_theory

CONFIG = Config(1000, (1, 2), 0)


def test_scores_and_curvatures():
    scores, curvatures = dae_theory.scores(CONFIG), dae_theory.curvatures(CONFIG)
    last = scores[-1]
    assert last["sigma"] == 0.01
    assert max(last["rcae"], last["dae"]) < 0.02
    assert max(curvatures[-1][name] for name in ("rcae", "dae")) < 0.03


def test_losses():
    rows = dae_theory.losses(CONFIG)
    best = [row["best_difference_per_sigma2"] for row in rows]
    assert best == sorted(best, reverse=True)
    assert best[-1] < 1e-3 * best[0]
    other = [row["other_difference_per_sigma2"] for row in rows]
    assert min(other) > 0.2


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_moments(dimension):
    # The errors are of second order in delta.
    rows = dae_theory.moments(dimension, 0)
    for name in ("mass", "mean", "covariance"):
        assert rows[1][name] / rows[2][name] == pytest.approx(4, rel=0.15)


def test_the_table():
    errors = [{"sigma": 0.01, "rcae": 0.125, "dae": 0.25}]
    names = ("sigma", "best_difference_per_sigma2", "other_difference_per_sigma2")
    moments = {"delta": 0.1, "mass": 0.5, "mean": 2.0, "covariance": 3.0}
    text = dae_theory.table(
        {
            "scores": errors,
            "proposition_1": [dict(zip(names, (0.02, 4.0, 5.0), strict=True))],
            "hessian": errors,
            "local_moments": {"3": [moments]},
        }
    )
    rows = [line.split() for line in text.splitlines()]
    assert rows.count(["0.01", "0.125", "0.25"]) == 2
    assert ["0.02", "4", "5"] in rows
    assert ["3", "0.1", "0.5", "2", "3"] in rows  # dimension, delta, errors


def test_everything_that_is_written(tmp_path):
    begun = []
    found = dae_theory.run(CONFIG, tmp_path, begin=lambda: begun.append(1))
    assert begun == [1]
    assert list(found["local_moments"]) == ["1", "2"]
    assert json.loads((tmp_path / "theory.json").read_text()) == found
    assert {path.name for path in tmp_path.iterdir()} == {
        "theory.json",
        "wells.png",
        "wells_small.png",
    }
