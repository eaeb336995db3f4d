import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_9
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_9.CONFIGS["quick"]


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(
        QUICK, binary=tiny_networks(QUICK.binary), real=tiny_networks(QUICK.real)
    )
    result, claims = through(fig_5_9, config, tmp_path)
    for name in ("binary", "real"):
        assert result[name].shape == (1, 4)
        assert (result[name] > 0).all()
    assert len(claims) == 2
    # Digits are not real-valued data.
    assert list(claims.values())[1].verdict == Verdict.CANNOT_TELL


def verdicts(binary=(1, 0.9, 0.8), real=(1, 1.1, 1.2), data="cifar10", before=None):
    halves = [before or binary, binary], [real, real]
    result = {"data": data} | dict(zip(("binary", "real"), map(np.array, halves), strict=True))
    return [claim.verdict for claim in fig_5_9.claims(result)]


def test_verdicts():
    assert verdicts() == [Verdict.HOLDS] * 2
    assert verdicts(binary=(1, 1.1, 0.8))[0] == Verdict.DOES_NOT_HOLD
    assert verdicts(before=(1, 1.1, 0.8))[0] == Verdict.CANNOT_TELL
    assert verdicts(real=(1, 0.9, 1.2))[1] == Verdict.DOES_NOT_HOLD
    assert verdicts(data="faces")[1] == Verdict.HOLDS
    assert verdicts(data="mnist_mini")[1] == Verdict.CANNOT_TELL
