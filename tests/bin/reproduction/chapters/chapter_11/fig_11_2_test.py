import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_2
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_2.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(4,), examples=60, largest=2, smallest=2, tol=0.1
    ),
)
HOLDS, FAILS, UNTOLD = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_2, TINY, tmp_path)
    assert result["search"]["curvature"] > 0
    assert result["at_optimum"] >= result["best"]["loss"] * (1 - 1e-6)
    assert len(claims) == 2


# The model predicts that the loss falls from 2 by 1^2 / (2 * 4) = .125.
@pytest.mark.parametrize(
    ("fell", "most", "residual", "verdicts"),
    [
        (0.125, 0.126, 0.01, [HOLDS, HOLDS]),
        (0.114, 0.126, 0.01, [HOLDS, HOLDS]),
        (0.1, 0.11, 0.01, [FAILS, HOLDS]),
        (0.13, 0.2, 0.01, [HOLDS, FAILS]),
        (-0.1, 0.02, 0.01, [FAILS, FAILS]),
        (0.125, 0.126, 5.0, [UNTOLD, UNTOLD]),
    ],
)
def test_what_is_claimed(fell, most, residual, verdicts):
    result = {
        "search": {"initial_loss": 2.0, "slope": 1.0, "curvature": 4.0},
        "best": {"alpha": 0.2, "decrease": most},
        "residual": residual,
        "at_optimum": 2 - fell,
    }
    claims = fig_11_2.claims(result)
    assert [claim.verdict for claim in claims] == verdicts
    assert f"{fell / 0.125:.0%} of that" in claims[0].measured
    assert "alpha* is 0.80 / lambda" in claims[1].measured


def test_a_gradient_with_no_part_along_it_tells_nothing():
    result = {
        "search": {"initial_loss": 2.0, "slope": 1e-4, "curvature": 4.0},
        "best": {"alpha": 0.2, "decrease": 1e-9},
        "residual": 0.01,
        "at_optimum": 2.0,
    }
    assert [claim.verdict for claim in fig_11_2.claims(result)] == [UNTOLD] * 2
