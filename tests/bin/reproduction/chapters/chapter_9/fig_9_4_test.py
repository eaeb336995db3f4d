import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import fig_9_4
from bin.reproduction.engine.contract import Verdict

QUICK = fig_9_4.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK, network=dataclasses.replace(QUICK.network, moments=(0,), probed=(60, 30, 30))
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_9_4, TINY, tmp_path)
    # The input and 16 blocks.
    assert len(result["moments"][0]["report"]["probes"]) == 17
    assert len(result["notes"]) == 3
    assert "stands in for one trained on ImageNet" in result["notes"][1]
    assert len(claims) == 2


def test_both_budgets_need_what_their_networks_need():
    for config in fig_9_4.CONFIGS.values():
        assert config.needs == config.network.needs


def verdicts(errors, own=()):
    def measures(error):
        return {"test": {"error": error, "standard_error": 0.01}}

    report = {
        "probes": [
            {"tap": {"name": f"block{i}"}, "metrics": measures(error)}
            for i, error in enumerate(errors)
        ],
        "model_error": {"class": {str(i): measures(error) for i, error in enumerate(own)}},
    }
    result = {"moments": [{"step": 0, "report": report}]}
    return [claim.verdict for claim in fig_9_4.claims(result)]


@pytest.mark.parametrize(
    ("errors", "own", "expected"),
    [
        ([0.8, 0.5, 0.51, 0.2, 0.21], [], [Verdict.HOLDS, Verdict.HOLDS]),
        ([0.8, 0.5, 0.6, 0.2], [0.2], [Verdict.DOES_NOT_HOLD, Verdict.HOLDS]),
        ([0.8, 0.5, 0.2, 0.3], [0.2], [Verdict.DOES_NOT_HOLD] * 2),
        # A network that was trained for other classes; one that was trained too briefly.
        ([0.8, 0.5, 0.2, 0.3], [], [Verdict.CANNOT_TELL] * 2),
        ([0.8, 0.5, 0.3, 0.2], [0.4], [Verdict.CANNOT_TELL] * 2),
    ],
)
def test_what_is_claimed(errors, own, expected):
    assert verdicts(errors, own) == expected
