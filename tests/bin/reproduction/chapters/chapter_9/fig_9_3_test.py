import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import fig_9_3
from bin.reproduction.engine.contract import Verdict

QUICK = fig_9_3.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    network=dataclasses.replace(
        QUICK.network, examples=(256, 64, 64), moments=(0, 2), probed=(120, 60, 60)
    ),
)
LAYERS = [
    "input", "conv1", "conv1_relu", "conv1_pool", "conv2", "conv2_relu", "conv2_pool", "fc1",
    "fc1_relu", "logits",
]  # fmt: skip


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_9_3, TINY, tmp_path)
    for moment in result["moments"]:
        assert [probe["tap"]["name"] for probe in moment["report"]["probes"]] == LAYERS
    assert len(result["notes"]) == 2
    assert len(claims) == 4
    # So few examples can't confirm the thesis' numbers.
    assert [c.verdict for c in claims.values() if c.thesis == "8 %, 2 %"] == [Verdict.CANNOT_TELL]


def result(start, end, train=54_000, spread=0.002):
    reports = [
        {
            "probes": [
                {
                    "tap": {"name": tap},
                    "metrics": {"test": {"error": error, "standard_error": spread}},
                }
                for tap, error in zip(LAYERS, errors, strict=True)
            ]
        }
        for errors in (start, end)
    ]
    moments = [{"step": step, "report": report} for step, report in enumerate(reports)]
    return {"moments": moments, "examples": {"train": train}}


START = [0.076, 0.076, 0.04, 0.03, 0.025, 0.024, 0.02, 0.021, 0.025, 0.4]
END = [0.076, 0.07, 0.03, 0.02, 0.018, 0.015, 0.012, 0.01, 0.008, 0.009]


def verdicts(*given, **rest):
    return [claim.verdict for claim in fig_9_3.claims(result(*given, **rest))]


def test_claims_that_hold():
    assert verdicts(START, END) == [Verdict.HOLDS] * 4


def test_too_few_examples_tell_no_numbers():
    assert verdicts(START, END, train=49_999)[1] == Verdict.CANNOT_TELL


@pytest.mark.parametrize(
    ("number", "start", "end", "expected"),
    [
        (0, [0.076, *[0.2] * 9], END, Verdict.DOES_NOT_HOLD),
        (0, [0.076, *[0.075] * 9], END, Verdict.CANNOT_TELL),
        (1, [0.12, *START[1:]], END, Verdict.DOES_NOT_HOLD),
        (1, [0.076, *[0.05] * 9], END, Verdict.DOES_NOT_HOLD),
        (2, [0.076, 0.076, 0.07, 0.03, *START[4:]], END, Verdict.DOES_NOT_HOLD),
        (2, [0.076, 0.076, 0.053, 0.03, *START[4:]], END, Verdict.CANNOT_TELL),
        (3, START, [*END[:4], 0.03, 0.015, 0.03, *END[7:]], Verdict.DOES_NOT_HOLD),
        (3, START, [*END[:4], 0.021, 0.015, 0.03, *END[7:-1], 0.007], Verdict.CANNOT_TELL),
    ],
)
def test_claims_that_do_not(number, start, end, expected):
    assert verdicts(start, end)[number] == expected
