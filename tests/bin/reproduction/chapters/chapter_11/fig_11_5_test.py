import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_5
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_5.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(0, 2, 4), examples=60, largest=2, smallest=1, tol=0.1
    ),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_5, TINY, tmp_path)
    assert [entry["step"] for entry in result["entries"]] == [0, 2, 4]
    assert [len(result["entries"][0][end]) for end in ("largest", "smallest")] == [2, 1]
    assert len(claims) == 5
    # Four steps of the 253 of an epoch are too few for claims about an epoch,
    late = [claim.verdict for claim in claims.values() if "epoch" in claim.sentence]
    assert late == [Verdict.CANNOT_TELL] * 2
    # but enough to show negative eigenvalues.
    assert claims["There are negative eigenvalues all through training."].verdict == (Verdict.HOLDS)


def test_moments_reach_from_the_start_to_two_epochs():
    for budget, examples in (("quick", 8_100), ("full", 54_000)):
        study = fig_11_5.CONFIGS[budget].study
        assert study.moments[0] == 0
        assert examples // study.batch_size in study.moments
        assert study.moments[-1] == 2 * (examples // study.batch_size)
