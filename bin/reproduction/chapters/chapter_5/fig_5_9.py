"""Figure 5.9: scaling factors over the steps of walkback."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains, real_valued_gsn
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

TITLE = "Scaling factors alpha_k over the steps k of walkback"
CAPTION = (
    "Of the network of figure 5.6 on digits, whose P(x | h) is Bernoulli and whose factors multiply"
    " logits, and of that of figure 5.10 on real-valued images, whose P(x | h) is normal and whose"
    " factors multiply standard deviations. alpha_1 is 1 by definition. Later steps start farther"
    " from the example and should be less sure of it: smaller factors of logits, larger ones of"
    " standard deviations."
)
AFTER = ("5.4", "5.10")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Whose factors are shown.

    Attributes:
        binary: a GSN on digits.
        real: one on real-valued images.
    """

    binary: gsn_chains.Config
    real: real_valued_gsn.Config


CONFIGS = {
    budget: Config(
        binary=networks["GSN-2, alpha_k"],
        real=common.FACES[budget]["scaled"],
        needs=networks["GSN-2, alpha_k"].needs,
        takes=common.FACES[budget]["scaled"].takes,
        needs_one_of=common.FACES[budget]["scaled"].needs_one_of,
        expected_seconds={"quick": 32, "full": 240}[budget],
    )
    for budget, networks in common.NETWORKS.items()
}


def run(config: Any) -> dict[str, Any]:
    """Returns the factors of both after every epoch."""
    binary, real = gsn_chains.samples(config.binary), real_valued_gsn.samples(config.real)
    return {
        "binary": binary["alphas"],
        "real": real["alphas"],
        "data": real["data"],
        "notes": [
            common.note("Digits", config.binary, binary),
            *common.notes_on_faces(config.real, real),
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws factors against steps."""
    from thesis_tf import gsn

    real = f"{common.DATA[result['data']]}, normal"
    gsn.draw_scaling({"digits, Bernoulli": result["binary"][-1], real: result["real"][-1]}, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """That factors fall on binary data, and grow on real-valued data."""
    real, told = common.DATA[result["data"]], common.is_real_valued(result["data"])
    return [
        _claim("On binary data factors fall with k (digits).", result["binary"], -1),
        _claim(f"On real-valued data factors grow with k ({real}).", result["real"], 1, told),
    ]


def _claim(sentence: str, alphas: np.ndarray, direction: Any, told: Any = True) -> Any:
    holds = (direction * np.diff(alphas[-1]) > 0).all()
    before = common.factors(alphas[common.halfway(alphas)])
    return Claim(
        sentence,
        NO_NUMBER,
        f"{common.factors(alphas[-1])}; halfway through the training {before}"
        + ("" if told else "; digits as real values are next to binary"),
        # An order that changed in the last half of the training may change again.
        verdict(holds, told=told and common.settled(alphas)),
    )
