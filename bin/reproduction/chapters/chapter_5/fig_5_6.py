"""Figure 5.6: samples of a GSN with two hidden layers, and completions of half-known images."""

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
    "Top: consecutive steps of two chains, line by line. Bottom: the left half of each test image"
    " is fixed while the other half is sampled, in three runs of 100 steps; unknown pixels begin as"
    " shuffled pixels of other images."
)
AFTER = ("5.4",)
_COLUMNS = 20  # the number of steps per line
_COMPLETED = 12  # the number of images whose completions are drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The networks of the figure.

    Attributes:
        network: the GSN.
        compared: the auto-encoder with walkback, from figure 5.4.
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


def run(config: Config) -> dict[str, Any]:
    """Returns chains, completions, and a classifier's judgment of them."""
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
    """Draws two chains and the completions."""
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
    title = f"known half, completions of {len(found['images'])} runs, and complete image"
    common.draw_sheets({**sheets, title: common.montage(rows)}, path, columns=1)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: chains mix, samples look like digits, and known pixels stay fixed."""
    chains, completions = result["chains"], result["completions"]
    changes = chains["changes"]
    mean, error = changes.mean(), _error(changes)
    sharp, other, real = chains["quality"], result["auto_encoder"]["quality"], result["real"]
    deviation = completions["deviations"]
    drawn, begun = completions["quality"], completions["quality_of_starts"]
    # A chain of the drawn length must have at least one visible change of class.
    steps = len(chains["images"])
    seen = steps / 100
    return [
        Claim(
            "Consecutive samples mix fast between classes.",
            NO_NUMBER,
            f"{common.shown(mean, error, 1)} changes of class per 100 steps, so {seen * mean:.1f}"
            f" in a chain of {steps} steps; the auto-encoder with walkback of figure 5.4 has"
            f" {result['auto_encoder']['changes'].mean():.1f} per 100 steps, but passes through"
            " more spurious samples. It holds if such a chain has more than one change",
            verdict_of_difference(seen * mean - 1, seen * error),
        ),
        Claim(
            "Samples are sharp: fewer of them are spurious than for the auto-encoder.",
            NO_NUMBER,
            f"no class above 0.5: {common.fraction(sharp)}; auto-encoder with walkback:"
            f" {common.fraction(other)}; real images: {common.fraction(real)}; mean confidence"
            f" {sharp['confidence']:.3f}, {other['confidence']:.3f} and {real['confidence']:.3f}",
            verdict_of_difference(*common.fewer(sharp, other)),
        ),
        Claim(
            "Known pixels stay fixed in the conditional chain.",
            NO_NUMBER,
            f"bit-identical after the last step: {'yes' if completions['held'] else 'no'}",
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
            f"no class above 0.5: {common.fraction(drawn)} of completions,"
            f" {common.fraction(begun)} of the initial images; mean confidence"
            f" {drawn['confidence']:.3f} and {begun['confidence']:.3f}. It holds if fewer of the"
            " completions have none",
            verdict_of_difference(*common.fewer(drawn, begun)),
        ),
    ]


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)
