import dataclasses

import pytest

from bin.reproduction.chapters.chapter_11 import fig_11_6
from bin.reproduction.engine.contract import Verdict

QUICK = fig_11_6.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    study=dataclasses.replace(
        QUICK.study, model="mlp", moments=(0, 2, 4), examples=60, largest=2, smallest=1, tol=0.1
    ),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_11_6, TINY, tmp_path)
    assert [entry["step"] for entry in result["entries"]] == [0, 2, 4]
    assert result["notes"][0].startswith("MNIST digits and a multi-layer perceptron stand in")
    assert len(claims) == 5
    assert {claim.verdict for claim in claims.values()} == {Verdict.CANNOT_TELL}
    of_cifar10 = fig_11_6.claims(result | {"data": "cifar10"})
    assert of_cifar10[0].verdict == Verdict.HOLDS


def test_moments_reach_from_the_start_to_two_epochs():
    for budget, examples in (("quick", 8_100), ("full", 45_000)):
        study = fig_11_6.CONFIGS[budget].study
        assert study.moments[0] == 0
        assert examples // study.batch_size in study.moments
        assert study.moments[-1] == 2 * (examples // study.batch_size)
