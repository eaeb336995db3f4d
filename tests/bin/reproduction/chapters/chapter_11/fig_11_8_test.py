import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_8
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_8.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(4,), examples=60, largest=2, smallest=2, tol=0.1
    ),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_8, TINY, tmp_path)
    assert len(result["values"]) == len(result["steps"]) == 4
    positive, negative = claims.values()
    assert "of 2 eigenvectors" in positive.measured
    assert "of 2 eigenvectors" in negative.measured
    # Two eigenvalues at each end are too few for a verdict.
    assert positive.verdict == negative.verdict == Verdict.CANNOT_TELL
