import numpy as np
import pytest

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Sources, Verdict

HOLDS, FAILS, UNTOLD = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL


def of_decreases(negative, positive):
    values = [*np.linspace(-2, -1, len(negative)), *np.linspace(1, 9, len(positive))]
    steps = [{"decrease": decrease} for decrease in (*negative, *positive)]
    (claim,) = common.judge_decreases({"values": np.array(values), "steps": steps})
    return claim


def test_decreases_are_compared_pair_by_pair():
    more, less = [0.3, 0.4, 0.5, 0.6], [0.1, 0.1, 0.2, 0.2]
    assert of_decreases(more, less).verdict == HOLDS
    assert "median decrease 0.45 along 4" in of_decreases(more, less).measured
    assert "lowers the loss more (by chance 50 ± 22 %)" in of_decreases(more, less).measured
    assert of_decreases(less, more).verdict == FAILS
    assert of_decreases([0.1, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6, 0.0]).verdict == UNTOLD
    assert "in 50% of all pairs" in of_decreases([0.1] * 4, [0.1] * 4).measured


def test_one_end_alone_tells_nothing_of_decreases():
    claim = of_decreases([0.1, 0.2], [])
    assert claim.verdict == UNTOLD
    assert claim.measured == "2 directions of negative curvature and 0 of positive"


def of_sizes(values, alphas):
    steps = [{"alpha": alpha} for alpha in alphas]
    return common.judge_sizes({"values": np.array(values), "steps": steps})


def test_step_sizes_follow_or_are_far_longer():
    values = [-1.0, -2, -1, -2, -1, 1, 2, 4, 5, 10]
    follow = [1.0, 0.6, 0.25, 0.3, 0.1]
    positive, negative = of_sizes(values, [50, -60, 90, -90, 100, *follow])
    assert (positive.verdict, negative.verdict) == (HOLDS, HOLDS)
    assert "along 5 of 5" in positive.measured
    assert "along 5 of 5 eigenvectors; along 2 the step ascends" in negative.measured
    positive, negative = of_sizes(values, [1, 0.5, 1, 0.5, 1, 9, 9, 9, 9, 9])
    assert (positive.verdict, negative.verdict) == (FAILS, FAILS)
    # Three of five may be chance. If no step lowers the loss, no best step is far.
    positive, negative = of_sizes(values, [50, -60, 90, 0.0, 1, 1.0, 0.6, 0.25, 9, 9])
    assert (positive.verdict, negative.verdict) == (UNTOLD, UNTOLD)
    assert "along 3 of 5" in negative.measured


def test_up_the_gradient_is_not_to_follow():
    positive, negative = of_sizes([1.0, 2, 4, 5, 10], [-1.0, -0.5, -0.25, -0.2, -0.1])
    assert positive.verdict == FAILS
    assert negative.verdict == UNTOLD
    assert "(no eigenvector)" in negative.measured


def history(largest, smallest, loss, steps=(0, 10, 100, 150, 200), epoch=100, converged=True):
    rows = zip(steps, largest, smallest, loss, strict=True)
    names = ("step", "largest", "smallest", "loss", "converged")
    entries = [
        dict(zip(names, (step, [large], [small], value, converged), strict=True))
        for step, large, small, value in rows
    ]
    return {"entries": entries, "epoch": epoch}


SETTLES = history(
    largest=[2.0, 30, 12, 8, 10],
    smallest=[-1.8, -4, -0.4, -0.5, -0.3],
    loss=[2.3, 1, 0.2, 0.1, 0.05],
)


def verdicts(result, **options):
    return [claim.verdict for claim in common.judge_history(result, **options)]


def test_a_history_of_which_all_claims_hold():
    assert verdicts(SETTLES) == [HOLDS] * 5
    claims = common.judge_history(SETTLES)
    assert "the smallest is -4 to -0.3 at 5 moments" in claims[0].measured
    assert "3% to 13% of the largest" in claims[1].measured
    assert "90% at this step" in claims[1].measured
    assert "6 times smaller" in claims[2].measured
    assert "from step 100 on (100 steps per epoch, 200 in all)" in claims[3].measured
    assert "the loss goes from 0.2 to 0.05" in claims[3].measured


def test_a_history_of_which_none_holds():
    result = history(
        largest=[1.0, 1, 1, 4, 9], smallest=[-0.5, 0.1, -0.9, -1, -8], loss=[2.3, 1, 0.2, 0.1, 0.05]
    )
    assert verdicts(result) == [FAILS] * 5


def test_a_loss_that_has_settled_too():
    # The loss falls by .02 from step 100 on, and can rise by .05 by chance.
    result = SETTLES | history([2.0, 30, 12, 8, 10], [-1.0] * 5, loss=[2.3, 1, 0.2, 0.25, 0.18])
    assert verdicts(result)[3] == FAILS


def test_what_a_history_cannot_tell():
    assert verdicts(SETTLES, told=False) == [UNTOLD] * 5
    # A decrease by less than a factor of two can occur within one step.
    assert verdicts(history([9.0] * 5, [-1, -1, -1, -1, -0.6], [1.0] * 5))[2] == UNTOLD
    # One and a half epochs can't show what has settled after one epoch.
    assert verdicts(SETTLES | {"epoch": 130})[3:] == [UNTOLD] * 2
    entries = [entry | {"converged": False} for entry in SETTLES["entries"]]
    assert verdicts(SETTLES | {"entries": entries}) == [UNTOLD] * 5


@pytest.mark.parametrize(
    ("values", "first"),
    [([1.0, 9, 4, 10], 3), ([1, 9, 6, 10], 1), ([6, 9, 6, 10], 0), ([-3, 1, -1, -2], 2), ([5], 0)],
)
def test_settled_from(values, first):
    assert common.settled_from(np.array(values, float)) == first


def test_what_a_study_needs_its_figure_needs():
    for study in (common.EARLY, common.LATE):
        for name, config in common.configs(study, 1, 2).items():
            assert config.needs == config.study.needs == (("mnist",) if name == "full" else ())
            assert config.settled(Sources(data_dir="/nowhere"), 3).study.seed == 3
    assert common.EARLY["full"].moments < common.LATE["full"].moments
