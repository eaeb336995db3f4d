import dataclasses

import numpy as np
import pytest
import scipy.spatial
import tensorflow as tf

from bin.reproduction.chapters.chapter_3 import fig_3_5
from bin.reproduction.chapters.chapter_3.studies import manifold_dae
from bin.reproduction.engine.contract import Verdict
from thesis_tf import autoencoders

SMALL = {"examples": 500, "test": 100, "scales": (0.1,), "iterations": 4}
TINY = dataclasses.replace(
    fig_3_5.CONFIGS["quick"],
    network=manifold_dae.Config(units=40, **SMALL),
    as_in_the_thesis=manifold_dae.Config(units=8, initialization="keras", **SMALL),
    population=2000,
    measured=50,
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_3_5, TINY, tmp_path)
    assert len(claims) == 6
    assert result["whole"]["points"].shape == result["close"]["moves"].shape == (441, 2)
    assert set(result["errors"]) == {"r", "kernel density"}
    assert 0 < result["moves"]["on"] < result["moves"]["off"]
    assert 0 <= result["once"] <= 1
    assert result["as_in_the_thesis"]["iterations"] == 4
    assert not result["as_in_the_thesis"]["converged"]
    assert "40 hidden units (1,000 in the thesis)" in result["notes"][0]


def losses(r):
    return {"r": r, "identity": 2.0, "kernel density": 1.0}


def result(good, slow, converged):
    return {
        "losses": losses(1.0),
        "errors": {"r": 0.1 if good else 0.5, "kernel density": 0.1},
        "moves": {"on": 0.1 if good else 0.5, "off": 0.7},
        "directions": {
            "near": 0.99 if good else 0.5,
            "near_points": 100,
            "everywhere": 0.99 if good else 0.5,
            "points": 2000,
        },
        "once": 1.0 if good else 0.5,
        "where": np.array([0.5] if good else []),
        "as_in_the_thesis": {"losses": losses(slow), "iterations": 9, "converged": converged},
    }


def test_verdicts():
    for good, verdict in ((True, Verdict.HOLDS), (False, Verdict.DOES_NOT_HOLD)):
        found = fig_3_5.claims(result(good, 1.0, converged=False))
        assert [claim.verdict for claim in found[:-1]] == [verdict] * 5
    for slow, converged, verdict in (
        (1.01, False, Verdict.HOLDS),
        (1.5, True, Verdict.DOES_NOT_HOLD),
        (1.5, False, Verdict.CANNOT_TELL),
    ):
        claim = fig_3_5.claims(result(True, slow, converged))[-1]
        assert claim.verdict == verdict
        assert ("still falls" in claim.measured) != converged


def test_the_sign_changes_once_between_arms_if_r_leads_to_the_nearer():
    dense = fig_3_5._spiral(np.linspace(3, 12, 5000))
    tree = scipy.spatial.cKDTree(dense)
    nearest = autoencoders.ScoreEstimator(
        lambda x: tf.numpy_function(lambda x: dense[tree.query(x)[1]], [x], x.dtype), sigma=0.01
    )
    found = fig_3_5._between_arms(nearest)
    assert found["once"] == 1
    assert found["where"].mean() == pytest.approx(0.5, abs=0.05)
    to_the_inner = autoencoders.ScoreEstimator(lambda x: 0.5 * x, sigma=0.01)
    assert fig_3_5._between_arms(to_the_inner)["once"] == 0
