import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_10
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_10.CONFIGS["quick"]


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(
        QUICK, network=tiny_networks(QUICK.network), compared=tiny_networks(QUICK.compared)
    )
    result, claims = through(fig_5_10, config, tmp_path)
    assert result["images"].shape == (6, 10, 10, 10)
    assert result["alphas"].shape == (1, 4)
    assert result["scaled"]["parzen"] != result["plain"]["parzen"]
    assert len(claims) == 3


def verdicts(scaled, plain, data="cifar10"):
    def of(nats):
        estimate = {
            "log_likelihood": nats,
            "standard_error": 3.0,
            "chain_standard_error": 4.0,
        }
        return {"parzen": estimate, "conservative": estimate}

    result = {
        "data": data,
        "scaled": of(scaled),
        "plain": of(plain),
        "distances": dict.fromkeys(("samples", "held_out"), np.array([[4.0, 5.0]])),
    }
    return [claim.verdict for claim in fig_5_10.claims(result)]


def test_verdicts():
    assert verdicts(120.0, 100.0) == [Verdict.HOLDS] * 3
    assert verdicts(100.0, 120.0)[:2] == [Verdict.DOES_NOT_HOLD] * 2
    assert verdicts(100.0, 110.0)[:2] == [Verdict.CANNOT_TELL] * 2
    assert verdicts(120.0, 100.0, "mnist_mini")[:2] == [Verdict.CANNOT_TELL] * 2
