import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import fig_9_6
from bin.reproduction.engine.contract import Verdict

QUICK = fig_9_6.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    network=dataclasses.replace(
        QUICK.network,
        examples=(256, 64, 64),
        moments=(0, 1, 2),
        taps=("input", "fc001_relu", "fc064_relu", "skip", "logits"),
        probed=(60, 30, 30),
    ),
)
TAPS = ("input", "fc001_relu", "fc064_relu", "skip", "logits")


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_9_6, TINY, tmp_path)
    assert [moment["step"] for moment in result["moments"]] == [0, 1, 2]
    for moment in result["moments"]:
        assert [probe["tap"]["name"] for probe in moment["report"]["probes"]] == list(TAPS)
    assert len(result["notes"]) == 2
    assert len(claims) == 4


def test_the_full_budget_probes_every_layer():
    full = fig_9_6.CONFIGS["full"].network
    assert "fc*_relu" in full.taps
    assert QUICK.network.moments == full.moments == (0, 500, 2000)


def result(errors, losses=(2.3, 1.0, 0.2), spread=0.01):
    def measures(error, loss=None):
        numbers = {"error": error, "standard_error": spread, "cross_entropy": loss}
        return {"test": numbers, "train": numbers}

    return {
        "moments": [
            {
                "step": step,
                "report": {
                    "probes": [
                        {"tap": {"name": tap}, "metrics": measures(error)}
                        for tap, error in zip(TAPS, errors, strict=True)
                    ],
                    "model_error": {"class": {"output": measures(0.1, loss)}},
                    "chance": {"class": 0.89},
                },
            }
            for step, loss in zip((0, 500, 2000), losses, strict=True)
        ]
    }


@pytest.mark.parametrize(
    ("errors", "losses", "expected"),
    [
        ((0.1, 0.12, 0.88, 0.12, 0.15), (2.3, 1.0, 0.2), [Verdict.HOLDS] * 4),
        (
            (0.1, 0.5, 0.4, 0.5, 0.5),
            (2.3, 2.4, 2.3),
            [Verdict.DOES_NOT_HOLD] * 4,
        ),
        # The information returns at the sum, and is lost again before the logits.
        (
            (0.1, 0.5, 0.51, 0.1, 0.52),
            (2.3, 1.0, 0.2),
            [Verdict.CANNOT_TELL, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL, Verdict.HOLDS],
        ),
    ],
)
def test_what_is_claimed(errors, losses, expected):
    assert [claim.verdict for claim in fig_9_6.claims(result(errors, losses))] == expected
