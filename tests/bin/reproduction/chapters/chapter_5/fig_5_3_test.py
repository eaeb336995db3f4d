import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_3
from bin.reproduction.engine.contract import Verdict

TINY = dataclasses.replace(
    fig_5_3.CONFIGS["quick"], examples=500, points=200, chains=10, steps=20, kept_every=2
)


def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_5_3, TINY, tmp_path)
    for name in ("truth", "training", "chain", "stationary"):
        assert result["histogram"][name].sum() == pytest.approx(1)
    assert result["manifold"]["training"].shape == (200, 10)
    assert result["manifold"]["chains"].shape == (100, 10)
    assert set(result["manifold"]["accuracy"]) == {"chains", "kernels", "fresh"}
    assert len(claims) == 2


def verdicts(p_value=0.5, chains=0.55, kernels=0.55):
    shares = np.full(10, 0.1)
    histogram = dict.fromkeys(("truth", "training", "chain", "stationary"), shares)
    accuracy = {"chains": [chains, 0.01], "kernels": [kernels, 0.01], "fresh": [0.5, 0.01]}
    result = {
        "histogram": histogram | {"errors": shares / 10, "p_value": p_value},
        "manifold": {"accuracy": accuracy},
    }
    return [claim.verdict for claim in fig_5_3.claims(result)]


def test_verdicts():
    assert verdicts() == [Verdict.HOLDS] * 2
    assert verdicts(p_value=0.01)[0] == Verdict.DOES_NOT_HOLD
    assert verdicts(chains=0.6)[1] == Verdict.DOES_NOT_HOLD
    # An error that independent draws of the kernels have, too, is not an error of the chain.
    assert verdicts(chains=0.6, kernels=0.59)[1] == Verdict.HOLDS
