"""Figure 9.5: Inception v3, each place in the color of its probe's error."""

from __future__ import annotations

import dataclasses
import pathlib

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings

TITLE = "Inception v3 in the colors of its probes' errors"
CAPTION = (
    "Red is bad, green and blue are good. Probes on the mean over space after each block. The"
    " thesis probes ImageNet's 1,000 classes, which are not public, in a network that was trained"
    " on them; here the classes are others."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is probed.

    Attributes:
        networks: a `probed_network.Config` each, of which the last moment is shown.
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
# The training of figure 9.9 at both budgets.
CONFIGS = {
    "quick": Config(networks=(common.INCEPTION["quick"],), expected_seconds=68),
    "full": Config(
        needs=_FILES,
        networks=(_PRETRAINED, common.INCEPTION["full"]),
        expected_seconds=710,
    ),
}


def run(config: Config) -> Result:
    """Probes the networks, of which one is trained first."""
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
        f" {pixels}, which fits what the first batch normalization has seen in training. How far"
        " errors fall depends on what the weights were trained for: the last blocks of a network"
        " for quite other classes forget what tells these apart.",
        examples,
    ]


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws the networks."""
    common.draw_networks({n["name"]: n for n in result["networks"]}, path)


def claims(result: Result) -> list[Claim]:
    """That errors fall along the main path."""
    return [_gradient(network) for network in result["networks"]]


def _gradient(network: Result) -> Claim:
    path = list(common.errors(network["report"]).values())
    down = common.descent(path)
    return Claim(
        "From red to green and blue there is a smooth gradient: the error falls almost perfectly"
        f" monotonically with depth (of the {network['name']}).",
        NO_NUMBER,
        f"{down}; from {path[0]} at the input over {min(path)} to {path[-1]} after the last block",
        down.verdict(told=common.tells(network["report"], down.rises)),
    )
