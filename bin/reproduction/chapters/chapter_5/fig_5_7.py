"""Figure 5.7: samples of the GSN with two hidden layers, early and later in training."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict_of_difference

TITLE = "Samples of a GSN early in its training and later"
CAPTION = (
    "Chains of the network of figure 5.6 at two epochs of its training; each row is a chain. The"
    " thesis shows epochs 10 and 25; this figure shows the same fractions of a shorter training."
    " The claims also use the chains of the untrained network."
)
AFTER = ("5.6",)
_ROWS, _COLUMNS = 10, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The network of the figure.

    Attributes:
        network: the GSN; its `epochs` are 0, an early epoch and a later epoch.
    """

    network: gsn_chains.Config


CONFIGS = {
    budget: Config(network=networks["GSN-2"], needs=networks["GSN-2"].needs, expected_seconds=3)
    for budget, networks in common.NETWORKS.items()
}


def run(config: Config) -> dict[str, Any]:
    """Returns the chains at all three epochs, with estimates and judgments of them."""
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
    """Draws chains after both epochs side by side."""
    sheets = {
        f"after {stage['epoch']} epochs": common.montage(
            stage["images"][-_COLUMNS:, :_ROWS].swapaxes(0, 1)
        )
        for stage in result["stages"][1:]
    }
    common.draw_sheets(sheets, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: most of the improvement by training occurs early."""
    start, early, late = result["stages"]
    fraction = early["epoch"] / late["epoch"]
    numbers = [common.nats(stage["parzen"]) for stage in (start, early, late)]
    done, error = _fraction_done(*numbers)
    likelihoods = ", ".join(common.shown(*number, 0) for number in numbers)
    return [
        Claim(
            "The network quickly becomes a model that samples well: the early fraction of the gain"
            " in log-likelihood is larger than the fraction of the training.",
            NO_NUMBER,
            f"Parzen estimate of the log-likelihood, untrained, after {early['epoch']} and after"
            f" {late['epoch']} epochs: {likelihoods} nats; {done:.0%} ± {error:.0%} of the gain"
            f" after {fraction:.0%} of the training",
            verdict_of_difference(done - fraction, error),
        ),
        Claim(
            "At the earlier epoch most samples already look like digits.",
            NO_NUMBER,
            f"no class above 0.5: {common.fraction(early['quality'])} after {early['epoch']}"
            f" epochs, {common.fraction(late['quality'])} after {late['epoch']}; mean confidence"
            f" {early['quality']['confidence']:.3f} and {late['quality']['confidence']:.3f}",
            verdict_of_difference(
                0.5 - early["quality"]["unsure"], early["quality"]["standard_errors"]["unsure"]
            ),
        ),
    ]


def _fraction_done(
    start: tuple[float, float], early: tuple[float, float], late: tuple[float, float]
) -> tuple[float, float]:
    """Returns the fraction of the change from start to late that early has, and its error."""
    (a, a_error), (b, b_error), (c, c_error) = start, early, late
    way = c - a
    done = (b - a) / way
    errors = [(done - 1) * a_error / way, b_error / way, done * c_error / way]
    return float(done), float(np.hypot.reduce(errors))
