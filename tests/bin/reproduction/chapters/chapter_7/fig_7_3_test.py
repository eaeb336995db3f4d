import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7 import fig_7_3
from bin.reproduction.engine.contract import Verdict


@pytest.mark.slow
def test_from_config_to_claims(through, tiny, tmp_path):
    result, claims = through(fig_7_3, tiny(fig_7_3), tmp_path)
    for setting in result["settings"]:
        for curves in setting["curves"].values():
            assert ((curves["test_error"] >= 0) & (curves["test_error"] <= 1)).all()
    assert len(claims) == 4


def setting(uniform, of_examples=0.001):
    importance = np.array([[0.9, 0.3, 0.1], [0.9, 0.31, 0.11]])
    return {
        "label": "here",
        "curves": {
            "uniform": {"test_error": importance + np.array(uniform)},
            "importance": {"test_error": importance},
        },
        "errors_of_examples": dict.fromkeys(("while_training", "at_the_end"), of_examples),
    }


def test_what_is_claimed():
    yes, no, open_ = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL
    for uniform, of_examples, expected in (
        ([0.5, 0.1, 0.02], 0.001, [yes, yes]),
        ([0.5, 0.1, -0.02], 0.001, [yes, no]),
        ([0.5, -0.1, 0.02], 0.001, [no, yes]),
        ([0.5, 0.1, 0.02], 0.02, [yes, open_]),  # too few test examples
    ):
        found = fig_7_3.claims({"settings": [setting(uniform, of_examples)]})
        assert [claim.verdict for claim in found] == expected
    assert found[1].measured == "test error lower by 0.0200 ± 0.0200 at the end"
