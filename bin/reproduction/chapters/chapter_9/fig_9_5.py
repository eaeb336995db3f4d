"""Figure 9.5: Inception v3, each tap in the color of its probe's error."""

from __future__ import annotations

import dataclasses
import pathlib

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings

TITLE = "Inception v3 in the colors of its probes' errors"
CAPTION = (
    "Red means a large error; green and blue mean a small one. Probes on each block's output,"
    " averaged over space. The thesis probes the 1,000 classes of ImageNet, which is not public, in"
    " a network that was trained on it; this figure uses another data set."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The probed networks.

    Attributes:
        networks: one `probed_network.Config` per network; its last moment is shown.
    """

    networks: tuple[probed_network.Config, ...]


_FILES = ("cifar10", "inception_weights")
_PRETRAINED = probed_network.Config(
    needs=_FILES,
    model="inception_v3",
    image_size=150,
    preprocessing=probed_network.FITTING,
    weights="inception_weights",
    dataset="cifar10",
    taps=common.MAIN_PATH,
    probed=(5000, 1000, 2000),
)
# Both budgets include the training of figure 9.9.
CONFIGS = {
    "quick": Config(networks=(common.INCEPTION["quick"],), expected_seconds=68),
    "full": Config(
        needs=_FILES,
        networks=(_PRETRAINED, common.INCEPTION["full"]),
        expected_seconds=710,
    ),
}


def run(config: Config) -> Result:
    """Probes the networks; one of them is trained first."""
    networks: list[Result] = []
    notes: list[str] = []
    for network in config.networks:
        found = probed_network.reports(network)
        report = common.main_path(found["moments"][-1]["report"])
        name = "pretrained network" if network.weights else "network trained here"
        networks.append({"name": name, "report": report})
        notes += _notes(network, found)
    return {"networks": networks, "notes": notes}


def _notes(network: probed_network.Config, found: Result) -> list[str]:
    examples = common.examples_note(network, found)
    if not network.weights:
        return [
            f"An Inception v3 at {network.image_size} pixels stands in for one that was trained on"
            " ImageNet.",
            common.training_note(network, found),
            examples,
        ]
    pixels = {"tf": "[-1, 1]", "unit": "[0, 1]"}[found["preprocessing"]]
    return [
        f"Pretrained: the images are enlarged to {network.image_size} pixels and scaled to"
        f" {pixels}, which fits the moving averages of the first batch normalization. How far"
        " errors fall depends on the data on which the network was trained: the last blocks of a"
        " network for very different classes discard what distinguishes the probes' classes.",
        examples,
    ]


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws the networks."""
    common.draw_networks({n["name"]: n for n in result["networks"]}, path)


def claims(result: Result) -> list[Claim]:
    """Claims: errors fall along the main path."""
    return [_gradient(network) for network in result["networks"]]


def _gradient(network: Result) -> Claim:
    path = list(common.errors(network["report"]).values())
    down = common.descent(path)
    return Claim(
        "From red to green and blue there is a smooth gradient: the error falls almost perfectly"
        f" monotonically with depth (of the {network['name']}).",
        NO_NUMBER,
        f"{down}; {path[0]} at the input, {path[-1]} after the last block, minimum {min(path)}",
        down.verdict(told=common.tells(network["report"], down.rises)),
    )
