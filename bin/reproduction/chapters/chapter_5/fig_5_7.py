"""Figure 5.7: samples of the GSN with two hidden layers early and later in training."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict_of_difference

TITLE = "Samples of a GSN early in its training and later"
CAPTION = (
    "The network of figure 5.6, its chains run at two moments of one training; each row is a chain."
    " In the thesis it is after 10 and after 25 epochs, and here after the same parts of a shorter"
    " training. Beside both, the numbers have what the chains of the untrained network give."
)
AFTER = ("5.6",)
_ROWS, _COLUMNS = 10, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is drawn.

    Attributes:
        network: the GSN, whose `epochs` are 0, an early one and a later one.
    """

    network: gsn_chains.Config


CONFIGS = {
    budget: Config(network=networks["GSN-2"], needs=networks["GSN-2"].needs, expected_seconds=3)
    for budget, networks in common.NETWORKS.items()
}


def run(config: Any) -> dict[str, Any]:
    """Returns the chains of all three moments and what was said of them."""
    found = gsn_chains.samples(config.network)
    kept = ("epoch", "images", "quality", "parzen")
    return {
        "stages": [{key: stage[key] for key in kept} for stage in found["stages"]],
        "losses": found["losses"],
        "notes": [
            common.note("GSN-2", config.network, found),
            *common.smaller(config.network),
            common.judged(found),
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains after both epochs beside one another."""
    sheets = {
        f"after {stage['epoch']} epochs": common.montage(
            stage["images"][-_COLUMNS:, :_ROWS].swapaxes(0, 1)
        )
        for stage in result["stages"][1:]
    }
    common.draw_sheets(sheets, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """That most of what training brings is there early."""
    start, early, late = result["stages"]
    fraction = early["epoch"] / late["epoch"]
    numbers = [common.nats(stage["parzen"]) for stage in (start, early, late)]
    done, error = _fraction_done(*numbers)
    likelihoods = ", ".join(common.shown(*number, 0) for number in numbers)
    return [
        Claim(
            "It quickly becomes a model that samples well: an earlier epoch has more of the gain in"
            " log-likelihood than its part of the training.",
            NO_NUMBER,
            f"log-likelihood by a Parzen window untrained, after {early['epoch']} and after"
            f" {late['epoch']} epochs: {likelihoods} nats; {done:.0%} ± {error:.0%} of the gain"
            f" after {fraction:.0%} of the training",
            verdict_of_difference(done - fraction, error),
        ),
        Claim(
            "At the earlier epoch most samples are digits already.",
            NO_NUMBER,
            f"without a class above .5: {common.fraction(early['quality'])} after {early['epoch']}"
            f" epochs, {common.fraction(late['quality'])} after {late['epoch']}; mean confidence"
            f" {early['quality']['confidence']:.3f} and {late['quality']['confidence']:.3f}",
            verdict_of_difference(
                0.5 - early["quality"]["spurious"], early["quality"]["standard_errors"]["spurious"]
            ),
        ),
    ]


def _fraction_done(
    start: tuple[float, float], early: tuple[float, float], late: tuple[float, float]
) -> tuple[float, float]:
    """Which fraction of the way from start to late is done at early, and its standard error."""
    (a, a_error), (b, b_error), (c, c_error) = start, early, late
    way = c - a
    done = (b - a) / way
    errors = [(done - 1) * a_error / way, b_error / way, done * c_error / way]
    return float(done), float(np.hypot.reduce(errors))
