import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import common, fig_9_5, fig_9_9
from bin.reproduction.engine.contract import Verdict

QUICK = fig_9_9.CONFIGS["quick"]
# The same moment twice; `probed_network_test` tests the training in between.
TINY = dataclasses.replace(
    QUICK, network=dataclasses.replace(QUICK.network, moments=(0, 0), probed=(40, 20, 20))
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_9_9, TINY, tmp_path)
    assert len(result["moments"]) == 2
    names = {probe["tap"]["name"] for probe in result["moments"][0]["report"]["probes"]}
    assert {"mixed7", "aux_conv2_relu", *common.HEADS} <= names
    assert len(common.model_errors(result["moments"][0]["report"])) == 2
    assert len(result["notes"]) == 3
    # Equal errors at both moments are no improvement.
    assert next(iter(claims.values())).verdict == Verdict.CANNOT_TELL


def test_it_shares_its_training_with_figure_9_5():
    for budget in ("quick", "full"):
        assert fig_9_9.CONFIGS[budget].network in fig_9_5.CONFIGS[budget].networks
    assert fig_9_9.AFTER == ("9.5",)


def moment(step, own, **errors):
    def measures(error):
        return {"test": {"error": error, "standard_error": 0.01}}

    return {
        "step": step,
        "report": {
            "probes": [
                {"tap": {"name": tap}, "metrics": measures(error)} for tap, error in errors.items()
            ],
            "model_error": {
                "class": {f"output/{i}": measures(error) for i, error in enumerate(own)}
            },
        },
    }


def verdicts(*moments):
    return [claim.verdict for claim in fig_9_9.claims({"moments": moments})]


EARLY = moment(10, (0.9, 0.7), input=0.8, mixed0=0.6, predictions=0.8, aux_predictions=0.6)
LATE = moment(90, (0.2, 0.21), input=0.8, mixed0=0.3, predictions=0.2, aux_predictions=0.2)


def test_claims_that_hold():
    assert verdicts(EARLY, LATE) == [Verdict.HOLDS] * 3


@pytest.mark.parametrize(
    ("number", "early", "late", "expected"),
    [
        (0, EARLY, moment(90, (0.2, 0.2), input=0.8, mixed0=0.7, predictions=0.2,
                          aux_predictions=0.2), Verdict.DOES_NOT_HOLD),
        (0, EARLY, moment(90, (0.2, 0.2), input=0.8, mixed0=0.61, predictions=0.2,
                          aux_predictions=0.2), Verdict.CANNOT_TELL),
        (1, moment(10, (0.7, 0.9), predictions=0.6, aux_predictions=0.8), LATE,
         Verdict.DOES_NOT_HOLD),
        # The heads' errors and the probes' errors disagree.
        (1, moment(10, (0.7, 0.9), predictions=0.8, aux_predictions=0.6), LATE,
         Verdict.CANNOT_TELL),
        (1, moment(10, (0.9, 0.7), predictions=0.61, aux_predictions=0.6), LATE,
         Verdict.CANNOT_TELL),
        (2, EARLY, moment(90, (0.3, 0.2), input=0.8, mixed0=0.3, predictions=0.3,
                          aux_predictions=0.2), Verdict.DOES_NOT_HOLD),
        (2, EARLY, moment(90, (0.3, 0.2), input=0.8, mixed0=0.3, predictions=0.2,
                          aux_predictions=0.2), Verdict.CANNOT_TELL),
    ],
)  # fmt: skip
def test_claims_that_do_not(number, early, late, expected):
    shown = [probe["tap"]["name"] for probe in early["report"]["probes"]]
    if "input" not in shown:
        late = moment(90, (0.2, 0.2), predictions=0.2, aux_predictions=0.2)
    assert verdicts(early, late)[number] == expected
