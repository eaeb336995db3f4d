import dataclasses

import pytest

from bin.reproduction.chapters.chapter_3 import fig_3_7
from bin.reproduction.engine.contract import Verdict

TINY = dataclasses.replace(
    fig_3_7.CONFIGS["quick"],
    networks=fig_3_7._repeats(
        2, examples=400, test=60, units=16, scales=(0.1,), iterations=3
    ),
    far_points=20,
)  # fmt: skip


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_3_7, TINY, tmp_path)
    assert len(claims) == 3
    assert [set(repeat) for repeat in result["repeats"]] == [set(fig_3_7.NOISES)] * 2
    for repeat in result["repeats"]:
        for numbers in repeat.values():
            assert 0 <= numbers["fraction_at_spurious"] <= 1
            assert numbers["spurious_attractors"] <= numbers["attractors"]
    drawn = result["drawn"]
    for noise in fig_3_7.NOISES:
        near, far = drawn["near"][noise], drawn["far"][noise]
        assert near["attractors"].tolist() == far["attractors"].tolist()
        assert len(near["spurious"]) == len(near["attractors"])
        assert far["reach"] >= 2 * near["reach"]
        assert (abs(far["attractors"] - far["center"]) < far["reach"]).all()


def result(plain, sampled, right=(0.4, 0.9)):
    """Returns repeats in which this many of 100 initial points end at one spurious attractor."""

    def numbers(fraction, right):
        return {
            "spurious_attractors": int(fraction > 0),
            "fraction_at_spurious": fraction / 100,
            "losses": {"r": 1.0},
            "directions": {"everywhere": right},
        }

    repeats = [
        {"plain": numbers(a, right[0] + i / 1000), "sampled": numbers(b, right[1])}
        for i, (a, b) in enumerate(zip(plain, sampled, strict=True))
    ]
    return {"repeats": repeats, "far_points": 100}


def verdicts(*arguments):
    return [claim.verdict for claim in fig_3_7.claims(result(*arguments))]


def test_verdicts():
    holds, fails, open_ = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL
    assert verdicts([50, 60, 55], [0, 0, 0]) == [holds, holds, holds]
    assert verdicts([5, 5, 6], [50, 60, 55], (0.9, 0.4)) == [holds, fails, fails]
    # The claim can't be judged if there is nothing to remove, or if one repeat differs much.
    assert verdicts([0, 0, 0], [0, 0, 0]) == [fails, open_, holds]
    assert verdicts([60, 0, 0], [0, 0, 0], (0.5, 0.5)) == [holds, open_, open_]
    assert verdicts([60], [0]) == [holds, open_, open_]
