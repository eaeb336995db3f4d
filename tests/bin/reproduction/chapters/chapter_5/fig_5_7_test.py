import dataclasses

import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_7
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_7.CONFIGS["quick"]


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(QUICK, network=tiny_networks(QUICK.network))
    result, claims = through(fig_5_7, config, tmp_path)
    assert [stage["epoch"] for stage in result["stages"]] == [0, 2, 3]
    assert len(result["losses"]) == 3
    assert len(claims) == 2


def test_both_budgets_look_before_early_and_late():
    for config in fig_5_7.CONFIGS.values():
        start, early, late = config.network.epochs
        assert start == 0
        assert 0 < early < late


def stage(epoch, nats, spurious=0.1, error=1.0):
    return {
        "epoch": epoch,
        "parzen": {"log_likelihood": nats, "standard_error": error, "chain_standard_error": None},
        "quality": {
            "unsure": spurious,
            "confidence": 0.8,
            "standard_errors": {"unsure": 0.01},
        },
    }


def verdicts(early=90.0, spurious=0.1, error=1.0):
    stages = [stage(0, 0.0), stage(4, early, spurious, error), stage(10, 100.0)]
    return [claim.verdict for claim in fig_5_7.claims({"stages": stages})]


def test_verdicts():
    assert verdicts() == [Verdict.HOLDS, Verdict.HOLDS]
    assert verdicts(early=20.0)[0] == Verdict.DOES_NOT_HOLD
    assert verdicts(early=41.0, error=20.0)[0] == Verdict.CANNOT_TELL
    assert verdicts(spurious=0.9)[1] == Verdict.DOES_NOT_HOLD
    assert verdicts(spurious=0.49)[1] == Verdict.CANNOT_TELL


def test_the_part_done_and_its_error():
    done, error = fig_5_7._fraction_done((0.0, 3.0), (50.0, 4.0), (100.0, 8.0))
    assert done == 0.5
    # The derivatives of (b - a) / (c - a) with respect to a, b and c.
    assert error == pytest.approx(((0.5 * 0.03) ** 2 + 0.04**2 + (0.5 * 0.08) ** 2) ** 0.5)
