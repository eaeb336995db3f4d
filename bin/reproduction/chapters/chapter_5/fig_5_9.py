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
    "Factors of two networks: the network of figure 5.6 on digits, whose P(x | h) is Bernoulli and"
    " whose factors multiply logits; and the network of figure 5.10 on real-valued images, whose"
    " P(x | h) is normal and whose factors multiply standard deviations. alpha_1 is 1 by"
    " definition. Later steps begin farther from the example and should predict it with less"
    " certainty: with smaller factors for logits, and larger factors for standard deviations."
)
AFTER = ("5.4", "5.10")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The networks whose scaling factors are shown.

    Attributes:
        binary: a GSN on digits.
        real: a GSN on real-valued images.
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


def run(config: Config) -> dict[str, Any]:
    """Returns the scaling factors of both networks after every epoch."""
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
    """Draws scaling factors against steps of walkback."""
    from thesis_tf import gsn

    real = f"{common.DATA[result['data']]}, normal"
    gsn.draw_scaling({"digits, Bernoulli": result["binary"][-1], real: result["real"][-1]}, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: factors decrease with k on binary data and increase on real-valued data."""
    real, told = common.DATA[result["data"]], common.is_real_valued(result["data"])
    return [
        _claim("On binary data factors fall with k (digits).", result["binary"], -1),
        _claim(f"On real-valued data factors grow with k ({real}).", result["real"], 1, told),
    ]


def _claim(sentence: str, alphas: np.ndarray, direction: int, told: bool = True) -> Claim:
    holds = (direction * np.diff(alphas[-1]) > 0).all()
    before = common.factors(alphas[common.halfway(alphas)])
    return Claim(
        sentence,
        NO_NUMBER,
        f"{common.factors(alphas[-1])}; halfway through the training {before}"
        + ("" if told else "; digits are nearly binary even as real values"),
        # If the order changed in the second half of training, it may change again.
        verdict(holds, told=told and common.settled(alphas)),
    )
