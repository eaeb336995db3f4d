import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_1, fig_11_4
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_4.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(4,), examples=60, largest=2, smallest=2, tol=0.1
    ),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_4, TINY, tmp_path)
    assert len(result["values"]) == len(result["steps"]) == 4
    positive, negative = claims.values()
    assert "of 2 eigenvectors" in positive.measured
    assert "of 2 eigenvectors" in negative.measured
    # Two eigenvalues at each end are too few for a verdict.
    assert positive.verdict == negative.verdict == Verdict.CANNOT_TELL


def test_sizes_at_the_moment_of_figure_11_1(best_steps, tmp_path):
    for budget, config in fig_11_4.CONFIGS.items():
        assert config.study == fig_11_1.CONFIGS[budget].study
    fig_11_4.draw(best_steps, tmp_path / "picture.svg")
    drawn = (tmp_path / "picture.svg").read_text()
    assert "1 / |alpha*|" in drawn
    assert "decrease of the loss" not in drawn
    positive, negative = fig_11_4.claims(best_steps)
    assert positive.verdict == negative.verdict == Verdict.HOLDS
    assert "1 / alpha* is 1 to 1 (median 1) times lambda" in positive.measured
    assert "1 / |alpha*| is 0.01 to 0.01 (median 0.01) times |lambda|" in negative.measured
