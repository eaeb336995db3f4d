import dataclasses

import numpy as np

from bin.reproduction.chapters.chapter_3 import fig_3_6
from bin.reproduction.engine.contract import Verdict

QUICK = fig_3_6.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    network=dataclasses.replace(
        QUICK.network, examples=300, test=60, units=16, scales=(0.2,), iterations=3
    ),
    chains=40,
    steps=60,
)


def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_3_6, TINY, tmp_path)
    assert {name: x.shape for name, x in result["drawn"].items()} == {
        "data": (60, 10),
        "data with noise": (60, 10),
        "samples": (40, 10),
    }
    assert len(claims) == 3
    assert 0 < result["acceptance"] < 1
    # Any classifier distinguishes uniform points in a box from the data.
    assert result["told_apart"]["initial"] > 0.8
    assert result["told_apart"]["fresh"].shape == (10,)
    assert len(set(result["told_apart"]["fresh"])) > 1
    assert result["inside"]["initial"] < result["inside"]["fresh"]
    assert result["notes"][1].startswith("R-hat is ")


def test_nothing_is_known_of_how_a_few_states_have_mixed():
    assert "R-hat is unknown" in fig_3_6._mixing({"effective_sample_size": None, "r_hat": None})
    assert "R-hat is 3.5" in fig_3_6._mixing({"effective_sample_size": 2.0, "r_hat": 3.5})


def result(energies=0.1, inside=1.0, samples=0.5, fifth=0.53):
    fresh = 0.5 + 0.008 * np.array([-1.0, 1.0, -1.0, 1.0])
    return {
        "energies": {"error": energies, "accepted": [0.3, 0.3]},
        "acceptance": 0.3,
        "inside": {"samples": inside, "initial": 0.0, "fresh": 1.0},
        "told_apart": {"samples": samples, "fresh": fresh, "tenth": 0.51, "fifth": fifth},
        "chains": 2000,
        "losses": {"r": 1.1, "identity": 10.0, "kernel density": 1.0},
    }


def verdicts(**measured):
    return [claim.verdict for claim in fig_3_6.claims(result(**measured))]


def test_verdicts():
    assert verdicts() == [Verdict.HOLDS] * 3
    assert verdicts(energies=0.5)[0] == Verdict.DOES_NOT_HOLD
    assert verdicts(inside=0.9)[1] == Verdict.DOES_NOT_HOLD
    # One in two thousand outside may be chance.
    assert verdicts(inside=0.9995)[1] == Verdict.HOLDS
    assert verdicts(samples=0.53)[2] == Verdict.DOES_NOT_HOLD
    # A test that doesn't detect more noise can't show equality, but it can show a difference.
    assert verdicts(fifth=0.51)[2] == Verdict.CANNOT_TELL
    assert verdicts(samples=0.53, fifth=0.51)[2] == Verdict.DOES_NOT_HOLD
