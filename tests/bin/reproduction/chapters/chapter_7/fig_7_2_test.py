import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7 import fig_7_2
from bin.reproduction.engine.contract import Verdict


@pytest.mark.slow
def test_from_config_to_claims(through, tiny, tmp_path):
    result, claims = through(fig_7_2, tiny(fig_7_2), tmp_path)
    assert [setting["steps"].tolist() for setting in result["settings"]] == [[0, 4, 8]] * 2
    assert result["notes"][0] == "8,100 MNIST digits stand in for SVHN, which the thesis trains on."
    assert len(result["notes"]) == 3
    assert len(claims) == 3
    # A single process without workers can't show a gain in time.
    assert [c.verdict for s, c in claims.items() if "over time" in s] == [Verdict.CANNOT_TELL]


def setting(ratios, arrived, workers=0):
    """Returns two runs in which uniform SGD's loss is a multiple of importance sampling's."""
    loss = np.array([[2.0, 1.0, 0.5]] * 2)
    seconds = np.array([[0.0, 1.0, 2.0]] * 2)
    return {
        "label": "here",
        "steps": np.array([0, 50, 100]),
        "curves": {
            "uniform": {"loss": loss * np.array(ratios)[:, None], "seconds": seconds},
            "importance": {"loss": loss, "seconds": 1.5 * seconds},
        },
        "arrived": arrived,
        "worst": {"ratio": 1.25, "step": 50},
        "workers": workers,
    }


def test_what_is_claimed_of_steps():
    for ratios, arrived, expected, said in (
        ([1.5, 1.4], [50, 50], Verdict.HOLDS, "after 50% of the steps"),
        ([0.7, 0.6], [None, None], Verdict.DOES_NOT_HOLD, "is never reached"),
        ([1.5, 0.7], [50, None], Verdict.CANNOT_TELL, "is never reached"),
    ):
        claim = fig_7_2.claims({"settings": [setting(ratios, arrived)]})[0]
        assert claim.verdict == expected
        assert said in claim.measured
        assert "at most 1.250 times uniform SGD's (step 50)" in claim.measured


def test_what_is_claimed_of_time():
    for arrived, workers, expected, said in (
        ([50, 50], 3, Verdict.HOLDS, "0.75 times"),
        ([100, 100], 3, Verdict.DOES_NOT_HOLD, "1.50 times"),
        ([50, 50], 0, Verdict.CANNOT_TELL, "0.75 times"),
        ([None, None], 3, Verdict.DOES_NOT_HOLD, "∞ times"),
    ):
        claim = fig_7_2.claims({"settings": [setting([1.5, 1.4], arrived, workers)]})[1]
        assert claim.verdict == expected
        assert said in claim.measured
