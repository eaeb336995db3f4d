import dataclasses

import pytest

from bin.reproduction.chapters.chapter_3 import fig_3_4
from bin.reproduction.engine.contract import Verdict

TINY = dataclasses.replace(fig_3_4.CONFIGS["quick"], points=400, drawn=(0.31, 0.06), small=(0.02,))


def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_3_4, TINY, tmp_path)
    assert result["rcae"].shape == result["dae"].shape == (2, 400)
    assert result["grid"].shape == (400,)
    assert len(claims) == 3
    # Errors decrease with sigma; docs/autoencoders.md has the same numbers.
    for name, at_the_end in (("RCAE", 0.040), ("DAE", 0.044)):
        errors = [row[name] for row in result["errors"]]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] == pytest.approx(at_the_end, abs=2e-3)


def result(errors):
    return {
        "drawn": [0.06],
        "sigmas": [0.06, 0.01],
        "errors": [{"RCAE": rcae, "DAE": dae} for rcae, dae in errors],
    }


def test_verdicts():
    holds, fails = Verdict.HOLDS, Verdict.DOES_NOT_HOLD
    for errors, verdicts in (
        ([(0.04, 0.04), (0.010, 0.012)], [holds, holds, holds]),
        ([(0.3, 0.3), (0.01, 0.01)], [holds, fails, holds]),
        ([(0.04, 0.04), (0.01, 0.03)], [fails, holds, fails]),
        ([(0.001, 0.001), (0.01, 0.01)], [fails, holds, holds]),
    ):
        assert [claim.verdict for claim in fig_3_4.claims(result(errors))] == verdicts
