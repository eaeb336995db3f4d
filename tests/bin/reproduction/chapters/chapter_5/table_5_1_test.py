import dataclasses

import pytest

from bin.reproduction.chapters.chapter_5 import common, table_5_1
from bin.reproduction.engine.contract import NO_NUMBER, Verdict

QUICK = table_5_1.CONFIGS["quick"]
FEW = ("DAE", "DAE, walkback", "GSN-2", "GSN-2, alpha_k")  # also used by other tests


@pytest.mark.slow
def test_from_config_to_claims(through, tiny_networks, tmp_path):
    networks = tuple(tiny_networks(common.NETWORKS["quick"][name]) for name in FEW)
    config = dataclasses.replace(QUICK, names=FEW, networks=networks)
    result, claims = through(table_5_1, config, tmp_path)
    assert [row["name"] for row in result["rows"]] == ["training images", *FEW]
    # The number of training images is that of a network's samples.
    assert result["samples"] == 8
    for row in result["rows"]:
        assert " 8 samples" in row["parzen"]["protocol"]
    assert len(claims) == 6
    assert [claim.thesis for claim in claims.values()] == [
        "24", "-152", "214", "214 and -152", NO_NUMBER, "214 and 24",
    ]  # fmt: skip


def verdicts(**nats):
    errors = {"standard_error": 3.0, "chain_standard_error": 4.0}
    nats = {"training images": 24, "DAE": -152, "DAE, walkback": 0, "GSN-2": 214} | nats
    rows = [{"name": n, "parzen": {"log_likelihood": v} | errors} for n, v in nats.items()]
    return [claim.verdict for claim in table_5_1.claims({"rows": rows, "samples": 100})]


def test_verdicts():
    assert verdicts() == [Verdict.CANNOT_COMPARE] * 3 + [Verdict.HOLDS] * 3
    # The thesis' protocol is another: numbers that are equal or far apart say nothing.
    assert verdicts(**{"training images": 35}, DAE=-140)[:3] == [Verdict.CANNOT_COMPARE] * 3
    assert verdicts(DAE=300)[3:5] == [Verdict.DOES_NOT_HOLD] * 2
    assert verdicts(DAE=5)[4] == Verdict.CANNOT_TELL
    assert verdicts(**{"GSN-2": 20})[5] == Verdict.CANNOT_TELL
    assert verdicts(**{"GSN-2": 0})[5] == Verdict.DOES_NOT_HOLD
