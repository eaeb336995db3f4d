import json

import numpy as np
import pytest

from bin.gsn_theory import Config
from bin.jobs import gsn_theory

CONFIG = Config(problems=20, perturbations=100, seed=0)


def test_propositions():
    found = gsn_theory.propositions(CONFIG, np.random.default_rng(0))
    assert found["problems"] == 20
    assert len(found["distance"]) == 5
    # The linear systems have at most 64 states.
    assert max(found["distance"].values()) < 1e-12


def test_theorem_4():
    found = gsn_theory.theorem_4(CONFIG, np.random.default_rng(0))
    assert found["held"] == found["perturbations"] == 100
    assert 0 < found["median_distance_to_bound"] <= found["median_distance_to_sharper_bound"] <= 1


def test_the_histogram(tmp_path):
    found = gsn_theory.histogram(0, tmp_path / "histogram.png")
    assert (tmp_path / "histogram.png").stat().st_size > 0
    assert found["p_value"] > 1e-4
    assert np.sum(found["chain"]) == 1
    away = np.abs(np.subtract(found["stationary"], found["truth"])).sum()
    assert found["distance_of_stationary_to_truth"] == pytest.approx(away)


@pytest.mark.slow
def test_every_claim_and_everything_that_is_written(tmp_path):
    begun = []
    found = gsn_theory.run(CONFIG, tmp_path, begin=lambda: begun.append(1))
    assert begun == [1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "theory.json",
        "histogram.png",
        "manifold.png",
    }
    assert json.loads((tmp_path / "theory.json").read_text()) == found
    # Chains are as difficult to distinguish from the data as independent draws of the kernels.
    chains, kernels = (found["manifold"][name] for name in ("chains", "kernels_alone"))
    away = chains["two_sample_accuracy"] - kernels["two_sample_accuracy"]
    error = np.hypot(chains["two_sample_standard_error"], kernels["two_sample_standard_error"])
    assert abs(away) < 5 * error


RIGHT = {
    "propositions": {"distance": {"a": 1e-12, "b": 0.0}},
    "theorem_4": {"held": 100, "perturbations": 100},
    "histogram": {"p_value": 0.3},
}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, []),
        ({"propositions": {"distance": {"a": 1e-3}}}, ["a: stationary distributions are 1.0e-03"]),
        (
            {"propositions": {"distance": {"a": float("nan")}}},
            ["a: stationary distributions are n"],
        ),
        ({"theorem_4": {"held": 99, "perturbations": 100}}, ["The bound of Theorem 4 held on 99"]),
        ({"histogram": {"p_value": 1e-6}}, ["The chain's histogram is not that of its stationary"]),
    ],
)
def test_what_is_proven_and_does_not_come_out(wrong, expected):
    said = gsn_theory.doubts({**RIGHT, **wrong})
    assert len(said) == len(expected)
    assert all(a.startswith(b) for a, b in zip(said, expected, strict=True))
