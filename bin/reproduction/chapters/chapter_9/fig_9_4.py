"""Figure 9.4: probes after each residual block of a pretrained ResNet-50."""

from __future__ import annotations

import dataclasses
import pathlib

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import NO_NUMBER, NOT_AT_HAND, Claim, Settings, verdict

TITLE = "Test errors of linear probes after each residual block of a ResNet-50"
CAPTION = (
    "Probes on each block's output, averaged over space, from the input to the last block. The"
    " thesis probes the 1,000 classes of ImageNet, which is not public; this figure uses another"
    " data set. Error bars are standard errors over the test examples."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The probed network.

    Attributes:
        network: the network, probed at one moment.
    """

    network: probed_network.Config


_NETWORK = probed_network.Config(model="resnet50", taps=("input", "class:Add"))
CONFIGS = {
    "quick": Config(
        network=dataclasses.replace(
            _NETWORK,
            image_size=32,
            examples=(None, 100, None),
            moments=(50,),
            batch_size=32,
            momentum=0.8,
            probed=(1500, 400, 800),
        ),
        expected_seconds=32,
    ),
    "full": Config(
        needs=("cifar10", "resnet50_weights"),
        network=dataclasses.replace(
            _NETWORK,
            needs=("cifar10", "resnet50_weights"),
            weights="resnet50_weights",
            dataset="cifar10",
            probed=(4000, 1000, 2000),
        ),
        expected_seconds=300,
    ),
}


def run(config: Config) -> Result:
    """Probes the network; with the quick budget it is trained first."""
    network = config.network
    found = probed_network.reports(network)
    notes = [common.examples_note(network, found)]
    if network.weights:
        notes.append("The images are enlarged to 224 pixels for a network trained on ImageNet.")
    else:
        notes += [
            f"A ResNet-50 at {network.image_size} pixels stands in for one trained on ImageNet.",
            common.training_note(network, found),
        ]
    return {**found, "notes": notes}


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws the curve, and the network's error as a line if it has the same classes."""
    from thesis_tf import probes

    probes.draw_curves(common.report_of(result["moments"][-1]), path)


def claims(result: Result) -> list[Claim]:
    """Claims: errors fall with depth, and the last probe has the smallest error."""
    report = result["moments"][-1]["report"]
    path = list(common.errors(report).values())
    down, off = common.descent(path), path[-1].above(min(path))
    return [
        Claim(
            "The error falls with depth, from block to block.",
            NO_NUMBER,
            f"{down}; from {path[0]} at the input to {path[-1]} after the last block",
            down.verdict(told=common.tells(report, down.rises)),
        ),
        Claim(
            "The probe after the last block has the smallest error.",
            NOT_AT_HAND,
            f"{path[-1]}, {off} above the smallest",
            verdict(not off.told, told=common.tells(report, off.told)),
        ),
    ]
