import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7 import table_7_1
from bin.reproduction.engine.contract import NOT_AT_HAND, Verdict


@pytest.mark.slow
def test_from_config_to_claims(through, tiny, tmp_path):
    result, claims = through(table_7_1, tiny(table_7_1), tmp_path)
    assert [(row["setting"], row["method"]) for row in result["rows"]] == [
        (setting["label"], method)
        for setting in result["settings"]
        for method in ("uniform draws", "importance sampling")
    ]
    ends = result["settings"][1]["curves"]["importance"]["test_error"][:, -1]
    assert result["rows"][3]["test_error"][0] == np.mean(ends)
    assert len(claims) == 4
    assert {claim.thesis for claim in claims.values()} == {NOT_AT_HAND}


def test_what_is_claimed():
    importance = np.array([[0.9, 0.1], [0.9, 0.11]])
    for by, of_examples, expected in (
        (0.01, 0.001, [Verdict.HOLDS, Verdict.HOLDS]),
        (-0.01, 0.001, [Verdict.DOES_NOT_HOLD, Verdict.DOES_NOT_HOLD]),
        (0.01, 0.01, [Verdict.CANNOT_TELL, Verdict.HOLDS]),  # test examples are a sample
    ):
        curves = {"uniform": importance + np.array([0.0, by]), "importance": importance}
        setting = {
            "label": "here",
            "curves": {
                method: dict.fromkeys(("train_error", "test_error"), errors)
                for method, errors in curves.items()
            },
            "errors_of_examples": {"at_the_end": of_examples},
        }
        found = table_7_1.claims({"settings": [setting]})
        assert [claim.verdict for claim in found] == expected
        assert "test error" in found[0].sentence
    assert found[0].measured == "0.1050, uniform SGD at 0.1150: lower by 0.0100 ± 0.0100"
