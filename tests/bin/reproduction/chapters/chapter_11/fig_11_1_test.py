import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_1
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_1.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(4,), examples=60, largest=2, smallest=2, tol=0.1
    ),
)
LOWERS, LEAVES = 0, 1


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_1, TINY, tmp_path)
    search = result["search"]
    assert len(search["alphas"]) == len(search["loss"]) == len(search["quadratic"])
    assert search["curvature"] < 0
    assert result["best"]["decrease"] > 0
    assert result["notes"][-1] == "After 4 steps of training."
    assert len(claims) == 2


def result(curvature=-1.0, quartic=0.1, alpha=4.0, decrease=0.5):
    alphas = np.linspace(-0.75, 2, 34) * alpha
    quadratic = 2 - alphas + curvature * alphas**2 / 2
    return {
        "search": {
            "alphas": alphas,
            "loss": quadratic + quartic * alphas**4,
            "quadratic": quadratic,
            "initial_loss": 2.0,
            "slope": 1.0,
            "curvature": curvature,
            "optimum": 1 / curvature,
        },
        "best": {"alpha": alpha, "slope": 1.0, "loss": 2 - decrease, "decrease": decrease},
        "residual": 0.01,
    }


def verdicts(**changes):
    return [claim.verdict for claim in fig_11_1.claims(result(**changes))]


def test_claims_hold_where_the_loss_bends_up():
    assert verdicts() == [Verdict.HOLDS] * 2
    # The model predicts 4 + 16 / 2 at alpha = 4; .1 alpha^4 exceeds a tenth of it from 1.9 on.
    assert "they differ by a tenth of that from 50% of the way" in (
        fig_11_1.claims(result())[LEAVES].measured
    )
    assert verdicts(alpha=-4.0) == [Verdict.HOLDS] * 2


def test_a_loss_that_is_quadratic_stays_with_its_model():
    assert verdicts(quartic=0.0)[LEAVES] == Verdict.DOES_NOT_HOLD
    assert "up to the end of the curves" in fig_11_1.claims(result(quartic=0.0))[LEAVES].measured


@pytest.mark.parametrize("decrease", [0.0, 1e-6])
def test_what_rounding_explains_is_no_decrease(decrease):
    assert verdicts(decrease=decrease)[LOWERS] == Verdict.DOES_NOT_HOLD


@pytest.mark.parametrize("curvature", [-0.005, 0.5])
def test_without_negative_curvature_nothing_is_told(curvature):
    assert verdicts(curvature=curvature) == [Verdict.CANNOT_TELL] * 2
