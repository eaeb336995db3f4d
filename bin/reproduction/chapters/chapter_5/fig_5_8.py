"""Figure 5.8: samples of a GSN with three hidden layers on faces, beside their nearest examples."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import real_valued_gsn
from bin.reproduction.engine.contract import Claim, Settings

TITLE = "Consecutive samples of a GSN with three hidden layers on faces"
CAPTION = (
    "Each row is a chain, each image the mean of one of its last consecutive steps; the image at"
    " its end, apart, is the training example nearest to the last of them. P(x | h) is normal, with"
    " standard deviations that the network puts out. The thesis' Toronto Face Database is not"
    " public; faces may be given as an .npz file (--faces)."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is drawn.

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


def run(config: Any) -> dict[str, Any]:
    """Returns chains, and how far their last states are from training examples."""
    found = real_valued_gsn.samples(config.network)
    kept = ("data", "images", "nearest", "distances")
    notes = common.notes_on_faces(config.network, found)
    return {key: found[key] for key in kept} | {"notes": notes}


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws chains, and the nearest examples."""
    common.draw_nearest(result, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """That the samples are no copies of training examples."""
    return [common.no_copies(result)]
