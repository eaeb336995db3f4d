import numpy as np
import pytest

from bin.reproduction.chapters.chapter_7 import fig_7_4
from bin.reproduction.engine.contract import Verdict


@pytest.mark.slow
def test_from_config_to_claims(through, tiny, tmp_path):
    result, claims = through(fig_7_4, tiny(fig_7_4), tmp_path)
    assert [s["gradient_variances"]["steps"].tolist() for s in result["settings"]] == [[4, 8]] * 2
    # This follows from Jensen's inequality for any training.
    assert claims["Ideal draws vary less than uniform draws."].verdict == Verdict.HOLDS
    assert len(claims) == 4


def result_of(**changes):
    """Returns two runs at two steps; changes are squares of the drawn roots."""
    roots = {"ideal": 1, "stale": 2, "stale+1": 3, "actual": 3, "stale+10": 4, "uniform": 5}
    squares = {name: np.full((2, 2), root**2.0) for name, root in roots.items()}
    squares |= {name.replace("_", "+"): np.array([row] * 2) for name, row in changes.items()}
    order = {"evaluations": 4, "stale_between": 3, "actual_between": 4, "taken_over": 0}
    variances = {"steps": np.array([50, 100]), **squares}
    return {"settings": [{"label": "here", "gradient_variances": variances, "order": order}]}


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, []),
        ({"ideal": [1.0, 26.0]}, [0, 1, 2]),
        ({"stale": [4.0, 27.0]}, [1, 3]),
        ({"actual": [9.0, 27.0]}, [2]),
        # Norms so stale that a constant brings them nearer to the ideal.
        ({"stale": [4.0, 12.25]}, [3]),
        # Equally far on the other side of uniform.
        ({"stale": [4.0, 100.0]}, [1]),
    ],
)
def test_what_is_claimed(changes, fails):
    found = fig_7_4.claims(result_of(**changes))
    verdicts = [claim.verdict for claim in found]
    assert [n for n, verdict in enumerate(verdicts) if verdict != Verdict.HOLDS] == fails
    assert set(verdicts) <= {Verdict.HOLDS, Verdict.DOES_NOT_HOLD}
    assert "; so in 3 of 4 evaluations of single runs" in found[1].measured
    for n in set(fails) - {0}:
        assert "the curves at 1 of 2 steps, not at 100 (here)" in found[n].measured


def test_equal_weights_are_in_order_whatever_rounding_says():
    names = ("ideal", "stale", "stale_1", "stale_10", "actual")
    variances = {name: [4 + 1e-12, 4.0] for name in names}
    found = fig_7_4.claims(result_of(**variances, uniform=[4.0, 4.0]))
    assert {claim.verdict for claim in found} == {Verdict.HOLDS}
