import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_7
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_7.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(4,), examples=60, largest=2, smallest=2, tol=0.1
    ),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_7, TINY, tmp_path)
    assert (result["values"] < 0).tolist() == [True, True, False, False]
    assert len(result["steps"]) == 4
    (claim,) = claims.values()
    assert "along 2 eigenvectors of negative curvature" in claim.measured
    # Two eigenvalues at each end are too few for a verdict.
    assert claim.verdict == Verdict.CANNOT_TELL
