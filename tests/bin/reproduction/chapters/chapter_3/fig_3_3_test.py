import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_3 import fig_3_3
from bin.reproduction.engine.contract import Verdict

TINY = dataclasses.replace(fig_3_3.CONFIGS["quick"], points=400)


def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_3_3, TINY, tmp_path)
    assert np.trapezoid(result["density"], result["grid"]) == pytest.approx(1, abs=1e-6)
    # Roots of E', a polynomial of degree 5, and of E'' to its left.
    np.testing.assert_allclose(result["modes"]["x"], [0.0032, 0.9454], atol=1e-3)
    np.testing.assert_allclose(result["shoulders"]["x"], [-0.754], atol=1e-3)
    assert [claim.verdict for claim in claims.values()] == [
        Verdict.DOES_NOT_HOLD,
        Verdict.HOLDS,
        Verdict.HOLDS,
    ]
    assert "2 maxima" in claims["The density has three modes."].measured


def result(energies, beyond):
    return {
        "modes": {"x": np.arange(len(energies)), "energy": np.array(energies)},
        "shoulders": {"x": np.array([]), "energy": np.array([])},
        "slopes": np.array([]),
        "mass": 1.0,
        "beyond": beyond,
        "change_on_a_finer_grid": 0.0,
    }


@pytest.mark.parametrize(
    ("energies", "beyond", "verdicts"),
    [
        ([0.1, 0.3, 0.2], 0.0, [Verdict.HOLDS] * 3),
        ([0.2, 0.2], 1e-3, [Verdict.DOES_NOT_HOLD] * 3),
        ([0.2], 0.0, [Verdict.DOES_NOT_HOLD, Verdict.DOES_NOT_HOLD, Verdict.HOLDS]),
    ],
)
def test_verdicts(energies, beyond, verdicts):
    assert [claim.verdict for claim in fig_3_3.claims(result(energies, beyond))] == verdicts
