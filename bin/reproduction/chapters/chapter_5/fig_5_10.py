"""Figure 5.10: samples on faces of a GSN that was trained with scaling factors."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict_of_difference

TITLE = "Samples on faces of a GSN whose steps of walkback have scaling factors"
CAPTION = (
    "As figure 5.8, of the same network trained with a factor alpha_k for the standard deviations"
    " of step k (5.3.3). Chains draw with alpha_1, which is 1."
)
AFTER = ("5.8",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is drawn.

    Attributes:
        network: the GSN with factors.
        compared: the same without, of figure 5.8.
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


def run(config: Any) -> dict[str, Any]:
    """Returns chains, their nearest examples, and likelihoods with and without factors."""
    found = real_valued_gsn.samples(config.network)
    other = real_valued_gsn.samples(config.compared)
    kept = ("data", "images", "nearest", "distances", "alphas")
    estimates = ("parzen", "conservative")
    return {key: found[key] for key in kept} | {
        "scaled": {key: found[key] for key in estimates},
        "plain": {key: other[key] for key in estimates},
        "notes": [
            *common.notes_on_faces(config.network, found),
            f"alpha_k at the end of training: {common.factors(found['alphas'][-1])}. One"
            " training each, with and without factors.",
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains, and the nearest examples."""
    common.draw_nearest(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """That factors help, by either estimate, and that the samples are no copies."""
    return [
        *(_helps(result, key, by) for key, by in common.ESTIMATES.items()),
        common.no_copies(result),
    ]


def _helps(result: dict[str, Any], key: str, by: Any) -> Any:
    with_factors, without = (result[name][key] for name in ("scaled", "plain"))
    gain, error = common.more_nats(with_factors, without)
    # What they do on digits, which are next to binary, says little of faces.
    if not common.is_real_valued(result["data"]):
        error = float("inf")
    return Claim(
        f"Scaling factors make a better model ({by}).",
        NO_NUMBER,
        f"{common.shown(*common.nats(with_factors), 0)} nats with and"
        f" {common.shown(*common.nats(without), 0)} without, on"
        f" {common.DATA[result['data']]}",
        verdict_of_difference(gain, error),
    )
