import dataclasses

import numpy as np
import pytest

from bin.reproduction.chapters.chapter_5 import fig_5_6
from bin.reproduction.engine.contract import Verdict

QUICK = fig_5_6.CONFIGS["quick"]


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    config = dataclasses.replace(
        QUICK, network=tiny_networks(QUICK.network), compared=tiny_networks(QUICK.compared)
    )
    result, claims = through(fig_5_6, config, tmp_path)
    assert result["chains"]["images"].shape == (10, 4, 28, 28)
    assert result["completions"]["images"].shape == (3, 5, 28, 28)
    assert len(claims) == 5
    known = claims["Known pixels stay fixed in the conditional chain."]
    assert known.verdict == Verdict.HOLDS


def quality(spurious):
    return {"unsure": spurious, "confidence": 0.7, "standard_errors": {"unsure": 0.01}}


def verdicts(
    changes=(9.0, 10.0, 11.0),
    spurious=(0.1, 0.2),
    held=True,
    deviations=(0.1, 0.11),
    completed=(0.1, 0.3),
):
    drawn, begun = map(quality, completed)
    result = {
        "chains": {
            "images": np.zeros((50, 2, 28, 28), np.uint8),
            "changes": np.array(changes),
            "quality": quality(spurious[0]),
        },
        "auto_encoder": {"changes": np.array([40.0]), "quality": quality(spurious[1])},
        "real": quality(0.0),
        "completions": {
            "held": held,
            "deviations": np.array(deviations),
            "quality": drawn,
            "quality_of_starts": begun,
        },
    }
    return [claim.verdict for claim in fig_5_6.claims(result)]


def test_verdicts():
    assert verdicts() == [Verdict.HOLDS] * 5
    # Fewer than one change in the 50 drawn steps.
    assert verdicts(changes=(0.9, 1.0, 1.1))[0] == Verdict.DOES_NOT_HOLD
    assert verdicts(changes=(0.0, 3.0, 6.0))[0] == Verdict.CANNOT_TELL
    assert verdicts(spurious=(0.2, 0.1))[1] == Verdict.DOES_NOT_HOLD
    assert verdicts(spurious=(0.1, 0.11))[1] == Verdict.CANNOT_TELL
    assert verdicts(held=False)[2] == Verdict.DOES_NOT_HOLD
    assert verdicts(deviations=(0.0, 0.0))[3] == Verdict.CANNOT_TELL
    assert verdicts(completed=(0.3, 0.1))[4] == Verdict.DOES_NOT_HOLD
