"""Figure 5.10: samples of faces from a GSN that was trained with scaling factors."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict_of_difference

TITLE = "Samples of faces from a GSN with scaling factors for the steps of walkback"
CAPTION = (
    "Like figure 5.8, for the same network trained with a factor alpha_k for the standard"
    " deviations of step k (5.3.3). Chains draw with alpha_1, which is 1."
)
AFTER = ("5.8",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The networks of the figure.

    Attributes:
        network: the GSN with scaling factors.
        compared: the same GSN without scaling factors, from figure 5.8.
    """

    network: real_valued_gsn.Config
    compared: real_valued_gsn.Config


CONFIGS = {
    budget: Config(
        network=networks["scaled"],
        compared=networks["plain"],
        takes=networks["scaled"].takes,
        needs_one_of=networks["scaled"].needs_one_of,
        expected_seconds={"quick": 18, "full": 205}[budget],
    )
    for budget, networks in common.FACES.items()
}


def run(config: Config) -> dict[str, Any]:
    """Returns chains, their nearest examples, and log-likelihoods with and without factors."""
    found = real_valued_gsn.samples(config.network)
    other = real_valued_gsn.samples(config.compared)
    kept = ("data", "images", "nearest", "distances", "alphas")
    estimates = ("parzen", "conservative")
    return {key: found[key] for key in kept} | {
        "scaled": {key: found[key] for key in estimates},
        "plain": {key: other[key] for key in estimates},
        "notes": [
            *common.notes_on_faces(config.network, found),
            f"alpha_k at the end of training: {common.factors(found['alphas'][-1])}. One network"
            " was trained with factors, and one without.",
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains, and the nearest examples."""
    common.draw_nearest(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: scaling factors help according to each estimate; samples are not copies."""
    return [
        *(_helps(result, key, by) for key, by in common.ESTIMATES.items()),
        common.no_copies(result),
    ]


def _helps(result: dict[str, Any], key: str, by: str) -> Claim:
    with_factors, without = (result[name][key] for name in ("scaled", "plain"))
    gain, error = common.more_nats(with_factors, without)
    # The effect on digits, which are nearly binary, says little about faces.
    if not common.is_real_valued(result["data"]):
        error = float("inf")
    return Claim(
        f"Scaling factors make a better model ({by}).",
        NO_NUMBER,
        f"{common.shown(*common.nats(with_factors), 0)} nats with factors and"
        f" {common.shown(*common.nats(without), 0)} without, on"
        f" {common.DATA[result['data']]}",
        verdict_of_difference(gain, error),
    )
