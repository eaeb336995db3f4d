import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_4
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_4.CONFIGS["quick"]


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(
        QUICK, one_step=tiny_networks(QUICK.one_step), walkback=tiny_networks(QUICK.walkback)
    )
    result, claims = through(fig_5_4, config, tmp_path)
    for name in ("plain", "walkback"):
        assert result[name]["images"].shape == (10, 4, 28, 28)
        assert result[name]["changes"].shape == (4,)
    assert not np.array_equal(result["plain"]["images"], result["walkback"]["images"])
    assert len(claims) == 1
    assert result["notes"][0] == (
        "DAE: 784-8-784, 1 epochs of 200 digits in batches of 50, no walkback."
    )
    assert "walkback 4" in result["notes"][1]


def quality(spurious):
    return {
        "unsure": spurious,
        "confidence": 0.7,
        "entropy": 0.9,
        "standard_errors": {"unsure": 0.01},
    }


def verdict(plain, walkback):
    result = {"plain": {"quality": quality(plain)}, "walkback": {"quality": quality(walkback)}}
    (claim,) = fig_5_4.claims(result)
    return claim.verdict


def test_verdicts():
    assert verdict(0.4, 0.2) == Verdict.HOLDS
    assert verdict(0.2, 0.4) == Verdict.DOES_NOT_HOLD
    assert verdict(0.21, 0.2) == Verdict.CANNOT_TELL
