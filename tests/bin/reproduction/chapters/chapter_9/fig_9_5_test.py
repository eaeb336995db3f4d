import dataclasses

import pytest

from bin.reproduction.chapters.chapter_9 import fig_9_5
from bin.reproduction.engine.contract import Sources, Verdict

QUICK = fig_9_5.CONFIGS["quick"]
TINY = dataclasses.replace(
    QUICK,
    networks=(dataclasses.replace(QUICK.networks[0], moments=(0,), probed=(40, 20, 20)),),
)


@pytest.mark.slow
def test_from_config_to_claims(through, tmp_path):
    result, claims = through(fig_9_5, TINY, tmp_path)
    (network,) = result["networks"]
    names = [probe["tap"]["name"] for probe in network["report"]["probes"]]
    assert names == [
        "input",
        "max_pooling2d",
        "max_pooling2d_1",
        *(f"mixed{i}" for i in range(11)),
    ]
    assert len(network["report"]["edges"]) == 13
    assert len(result["notes"]) == 3
    assert len(claims) == 1


def test_a_pretrained_network_says_how_pixels_were_scaled(monkeypatch):
    report = {"probes": [], "edges": []}
    found = {
        "moments": [{"step": 0, "report": report}],
        "examples": {"train": 1, "validation": 1, "test": 1},
        "trained_on": 9,
        "preprocessing": "unit",
    }
    monkeypatch.setattr(fig_9_5.probed_network, "reports", lambda config: found)
    full = fig_9_5.CONFIGS["full"].settled(Sources(), 0)
    assert {name for n in full.networks for name in n.needs} == set(full.needs)
    result = fig_9_5.run(full)
    assert [n["name"] for n in result["networks"]] == ["pretrained network", "network trained here"]
    assert "scaled to [0, 1]" in result["notes"][0]


@pytest.mark.parametrize(
    ("errors", "own", "expected"),
    [
        ([0.8, 0.5, 0.51, 0.2], [], Verdict.HOLDS),
        ([0.8, 0.5, 0.2, 0.5], [], Verdict.CANNOT_TELL),
        ([0.8, 0.5, 0.51, 0.2], [0.2], Verdict.HOLDS),
        ([0.8, 0.5, 0.2, 0.5], [0.2], Verdict.DOES_NOT_HOLD),
        ([0.8, 0.5, 0.2, 0.5], [0.4], Verdict.CANNOT_TELL),
    ],
)
def test_what_is_claimed(errors, own, expected):
    def measures(error):
        return {"test": {"error": error, "standard_error": 0.01}}

    report = {
        "probes": [
            {"tap": {"name": f"mixed{i}"}, "metrics": measures(error)}
            for i, error in enumerate(errors)
        ],
        "model_error": {"class": {str(i): measures(error) for i, error in enumerate(own)}},
    }
    (claim,) = fig_9_5.claims({"networks": [{"name": "network trained here", "report": report}]})
    assert claim.verdict == expected
    assert claim.sentence.endswith("(of the network trained here).")
