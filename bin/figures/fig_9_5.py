"""Figure 9.5: Inception v3, each place in the colour of its probe's error."""

import dataclasses

from bin.figures import chapter_9
from bin.figures.studies import probed_network
from bin.reproduction.contract import NO_NUMBER, Claim, Settings

TITLE = "Inception v3 in the colours of its probes' errors"
CAPTION = (
    "Red is bad, green and blue are good. Probes on the mean over space after each block. The"
    " thesis probes ImageNet's 1,000 classes, which are not public; here the classes are others."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is probed.

    Attributes:
        network: of which the last moment is shown.
    """

    network: probed_network.Config


_FILES = ("cifar10", "inception_weights")
CONFIGS = {
    # The training of figure 9.9.
    "quick": Config(network=chapter_9.INCEPTION["quick"], expected_seconds=68),
    "full": Config(
        needs=_FILES,
        network=probed_network.Config(
            needs=_FILES,
            model="inception_v3",
            image_size=150,
            preprocessing=probed_network.FITTING,
            weights="inception_weights",
            dataset="cifar10",
            taps=chapter_9.MAIN_PATH,
            probed=(5000, 1000, 2000),
        ),
        expected_seconds=90,
    ),
}


def run(config):
    """Probes the network, which the quick budget trains first."""
    network = config.network
    found = probed_network.reports(network)
    pretrained = network.weights is not None
    notes = [chapter_9.examples_note(network, found)]
    if pretrained:
        pixels = {"tf": "[-1, 1]", "unit": "[0, 1]"}[found["preprocessing"]]
        notes.append(
            f"The images are enlarged to {network.image_size} pixels and scaled to {pixels}, which"
            " fits what the first batch normalisation has seen in training. How far errors fall"
            " depends on what the weights were trained for: the last blocks of a network for quite"
            " other classes forget what tells these apart."
        )
    else:
        notes += [
            f"An Inception v3 at {network.image_size} pixels stands in for one that was trained on"
            " ImageNet.",
            chapter_9.training_note(network, found),
        ]
    return {"moment": found["moments"][-1], "pretrained": pretrained, "notes": notes}


def draw(result, path):
    """Draws the network."""
    chapter_9.draw_networks([result["moment"]], path)


def claims(result):
    """That errors fall along the main path."""
    path = chapter_9.along_main_path(result["moment"]["report"])
    down = chapter_9.descent(path)
    return [
        Claim(
            "From red to green and blue there is a smooth gradient: the error falls almost"
            " perfectly monotonically with depth.",
            NO_NUMBER,
            f"{down}; from {path[0]} at the input over {min(path)} to {path[-1]} after the last"
            " block",
            # A network that has hardly learnt anything owes nothing to its depth.
            down.verdict(told=result["pretrained"]),
        )
    ]
