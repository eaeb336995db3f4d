"""Figure 5.8: samples of faces from a GSN with three hidden layers, with the nearest examples."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
from bin.reproduction.engine.contract import Claim, Settings

TITLE = "Consecutive samples of faces from a GSN with three hidden layers"
CAPTION = (
    "Each row shows the last consecutive steps of one chain, as means E[x | h]; the separate image"
    " at its end is the training example nearest to the last step. P(x | h) is normal, and the"
    " network predicts its standard deviations. The thesis uses the Toronto Face Database, which is"
    " not public; pass other faces as an .npz file with --faces."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The network of the figure.

    Attributes:
        network: the GSN.
    """

    network: real_valued_gsn.Config


CONFIGS = {
    budget: Config(
        network=networks["plain"],
        takes=networks["plain"].takes,
        needs_one_of=networks["plain"].needs_one_of,
        expected_seconds={"quick": 17, "full": 205}[budget],
    )
    for budget, networks in common.FACES.items()
}


def run(config: Config) -> dict[str, Any]:
    """Returns chains, and the distances of their last states from training examples."""
    found = real_valued_gsn.samples(config.network)
    kept = ("data", "images", "nearest", "distances")
    notes = common.notes_on_faces(config.network, found)
    return {key: found[key] for key in kept} | {"notes": notes}


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains and the nearest training examples."""
    common.draw_nearest(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the samples are not copies of training examples."""
    return [common.no_copies(result)]
