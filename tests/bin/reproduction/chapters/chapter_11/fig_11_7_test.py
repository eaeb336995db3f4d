import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_7
from bin.reproduction.engine.contract import Verdict
from thesis_tf import datasets

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


def test_decreases_after_one_epoch(best_steps, tmp_path):
    quick, full = (fig_11_7.CONFIGS[budget].study for budget in ("quick", "full"))
    assert quick.moments == (len(datasets.load("mnist_mini").train) // 32,)
    assert full.moments == (54_000 // 32,)  # MNIST without 6,000 validation examples
    assert quick.batch_size == full.batch_size == 32
    fig_11_7.draw(best_steps, tmp_path / "picture.svg")
    drawn = (tmp_path / "picture.svg").read_text()
    assert "decrease of the loss by the best step" in drawn
    assert "1 / |alpha*|" not in drawn
    (claim,) = fig_11_7.claims(best_steps)
    assert claim.verdict == Verdict.HOLDS
    assert "median decrease 0.5 along 5 eigenvectors of negative curvature" in claim.measured
    assert "0.03 along 5 of positive curvature" in claim.measured
