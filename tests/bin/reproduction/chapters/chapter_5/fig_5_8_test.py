import dataclasses

import numpy as np

from bin.reproduction.chapters.chapter_5 import fig_5_8
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_8.CONFIGS["quick"]


def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(QUICK, network=tiny_networks(QUICK.network))
    result, claims = through(fig_5_8, config, tmp_path)
    assert result["images"].shape == (6, 10, 10, 10)
    assert result["nearest"].shape == (10, 10, 10)
    assert len(claims) == 1
    assert result["notes"][0] == "digits stand in for faces, as real values."


def test_verdicts():
    held_out = np.array([[5.0, 6.0]])
    for nearest, expected in (
        (4.0, Verdict.HOLDS), (0.1, Verdict.DOES_NOT_HOLD), (5.5, Verdict.CANNOT_TELL),
    ):  # fmt: skip
        samples = np.array([[nearest, 5.6]])
        (claim,) = fig_5_8.claims({"distances": {"samples": samples, "held_out": held_out}})
        assert claim.verdict == expected
