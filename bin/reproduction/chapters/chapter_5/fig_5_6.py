"""Figure 5.6: samples of a GSN with two hidden layers, and of halves of images that are known."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine.contract import (
    NO_NUMBER,
    Claim,
    Settings,
    verdict,
    verdict_of_difference,
)

TITLE = "Consecutive samples of a GSN with two hidden layers, and completions of images"
CAPTION = (
    "Top: two runs of consecutive steps of the chain, line by line. Below: the left half of test"
    " images is held while the rest is drawn, from shuffled pixels on, in three runs of 100 steps."
)
AFTER = ("5.4",)
_COLUMNS = 20  # steps of a run in a line
_COMPLETED = 12  # images whose completions are drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is drawn.

    Attributes:
        network: the GSN.
        compared: the auto-encoder with walkback of figure 5.4.
    """

    network: gsn_chains.Config
    compared: gsn_chains.Config


CONFIGS = {
    budget: Config(
        network=networks["GSN-2"],
        compared=networks["DAE, walkback"],
        needs=networks["GSN-2"].needs,
        expected_seconds={"quick": 38, "full": 280}[budget],
    )
    for budget, networks in common.NETWORKS.items()
}


def run(config: Any) -> dict[str, Any]:
    """Returns chains, completions, and what a classifier says of them."""
    found = gsn_chains.samples(config.network)
    other = gsn_chains.samples(config.compared)["stages"][-1]
    kept = ("images", "quality", "changes")
    return {
        "chains": {key: found["stages"][-1][key] for key in kept},
        "completions": found["completions"],
        "auto_encoder": {key: other[key] for key in kept[1:]},
        "real": found["real"],
        "notes": [
            common.note("GSN-2", config.network, found),
            *common.smaller(config.network),
            common.judged(found),
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws two runs, and completions."""
    images, found = result["chains"]["images"], result["completions"]
    columns = min(_COLUMNS, len(images))
    lines = len(images) // columns
    sheets = {
        f"run {chain + 1}: {lines * columns} consecutive steps": common.montage(
            images[: lines * columns, chain].reshape(lines, columns, *images.shape[-2:])
        )
        for chain in range(2)
    }
    known = np.where(found["mask"], found["truth"], 128).astype(np.uint8)
    rows = np.stack([known, *found["images"], found["truth"]])[:, :_COMPLETED]
    title = f"what is known, completions of {len(found['images'])} runs, and the whole image"
    common.draw_sheets({**sheets, title: common.montage(rows)}, path, columns=1)


def claims(result: dict[str, Any]) -> list[Claim]:
    """That chains mix and samples look like digits, and that what is known stays."""
    chains, completions = result["chains"], result["completions"]
    changes = chains["changes"]
    mean, error = changes.mean(), _error(changes)
    sharp, other, real = chains["quality"], result["auto_encoder"]["quality"], result["real"]
    deviation = completions["deviations"]
    drawn, begun = completions["quality"], completions["quality_of_starts"]
    # In a run as it is drawn one change at least must be seen.
    steps = len(chains["images"])
    seen = steps / 100
    return [
        Claim(
            "Consecutive samples mix fast between classes.",
            NO_NUMBER,
            f"{common.shown(mean, error, 1)} changes of class in 100 steps, so that a run of"
            f" {steps} has {seen * mean:.1f}; the auto-encoder of figure 5.4 with"
            f" walkback {result['auto_encoder']['changes'].mean():.1f}, by way of more that is no"
            " digit",
            verdict_of_difference(seen * mean - 1, seen * error),
        ),
        Claim(
            "Samples are sharp: fewer of them are no digits than the auto-encoder's.",
            NO_NUMBER,
            f"without a class above .5: {common.fraction(sharp)}, of the auto-encoder with walkback"
            f" {common.fraction(other)}, of real images {common.fraction(real)}; mean confidence"
            f" {sharp['confidence']:.3f}, {other['confidence']:.3f} and {real['confidence']:.3f}",
            verdict_of_difference(*common.fewer(sharp, other)),
        ),
        Claim(
            "What is known stays as it is in the conditional chain.",
            NO_NUMBER,
            f"the same bits after the last step: {'yes' if completions['held'] else 'no'}",
            verdict(completions["held"]),
        ),
        Claim(
            "Completions of one image differ from run to run.",
            NO_NUMBER,
            "standard deviation of a pixel's mean between runs:"
            f" {common.shown(deviation.mean(), _error(deviation))}",
            verdict_of_difference(deviation.mean(), _error(deviation)),
        ),
        Claim(
            "Completions look like digits.",
            NO_NUMBER,
            f"without a class above .5: {common.fraction(drawn)}, with the pixels that chains began"
            f" with {common.fraction(begun)}; mean confidence {drawn['confidence']:.3f} and"
            f" {begun['confidence']:.3f}",
            verdict_of_difference(*common.fewer(drawn, begun)),
        ),
    ]


def _error(values: np.ndarray) -> Any:
    return float(values.std(ddof=1) / len(values) ** 0.5)
