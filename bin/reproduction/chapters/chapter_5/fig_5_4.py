"""Figure 5.4: successive samples of a denoising auto-encoder, without and with walkback."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict_of_difference

TITLE = "Successive samples of a plain denoising auto-encoder and of one trained by walkback"
CAPTION = (
    "Each row shows successive steps of one chain, as means E[x | x~], about ninety steps after a"
    " training example. Both networks have the same layers and computed the same number of"
    " reconstructions in training: the one without walkback was trained for four times as many"
    " epochs. A sample is spurious if a classifier of real digits gives no class a probability"
    " above 0.5."
)
NAMES = {"DAE": "plain", "DAE, walkback": "walkback"}
_ROWS, _COLUMNS = 10, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The networks of the figure.

    Attributes:
        one_step, walkback: the auto-encoders without and with walkback.
    """

    one_step: gsn_chains.Config
    walkback: gsn_chains.Config


CONFIGS = {
    budget: Config(
        one_step=networks["DAE"],
        walkback=networks["DAE, walkback"],
        needs=networks["DAE"].needs,
        expected_seconds={"quick": 68, "full": 640}[budget],
    )
    for budget, networks in common.NETWORKS.items()
}


def run(config: Config) -> dict[str, Any]:
    """Returns the chains of both networks and a classifier's judgment of them."""
    configs = {"plain": config.one_step, "walkback": config.walkback}
    found = {name: gsn_chains.samples(network) for name, network in configs.items()}
    return {
        name: {key: runs["stages"][-1][key] for key in ("images", "quality", "changes")}
        for name, runs in found.items()
    } | {
        "notes": [
            *(common.note(name, configs[key], found[key]) for name, key in NAMES.items()),
            *common.smaller(config.one_step),
            common.judged(found["plain"]),
        ]
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains of both networks side by side."""
    sheets = {
        title: common.montage(result[name]["images"][-_COLUMNS:, :_ROWS].swapaxes(0, 1))
        for name, title in (("plain", "without walkback"), ("walkback", "with walkback"))
    }
    common.draw_sheets(sheets, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: walkback reduces the number of spurious samples."""
    plain, walkback = (result[name]["quality"] for name in ("plain", "walkback"))
    numbers = [
        f"{name} {plain[name]:.3f} without and {walkback[name]:.3f} with it"
        for name in ("confidence", "entropy")
    ]
    return [
        Claim(
            "Walkback training yields fewer spurious samples than the plain criterion.",
            NO_NUMBER,
            f"no class above 0.5: {common.fraction(plain)} without walkback,"
            f" {common.fraction(walkback)} with it; mean {', '.join(numbers)}",
            verdict_of_difference(*common.fewer(walkback, plain)),
        )
    ]
