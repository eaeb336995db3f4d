"""What the figures of chapter 9 share: what they read off probes' reports, and Inception v3."""

import dataclasses
import itertools
import math
import pathlib
import tempfile
from typing import NamedTuple

from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import verdict

DATASETS = {
    "mnist_mini": "the 10,000 bundled MNIST digits",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
}

# Figures 9.5 and 9.9; the main path and, from mixed7 on, the auxiliary head.
MAIN_PATH = ("input", "max_pooling2d", "max_pooling2d_1", "mixed?", "mixed10")
HEADS = ("predictions", "aux_predictions")
_SHORT = {
    "max_pooling2d": "pool",
    "max_pooling2d_1": "pool_1",
    "aux_conv1_relu": "aux_conv1",
    "aux_conv2_relu": "aux_conv2",
    "predictions": "logits",
    "aux_predictions": "aux_logits",
}
_TRAINED = probed_network.Config(
    model="inception_v3",
    image_size=75,
    auxiliary_head=True,
    taps=(*MAIN_PATH, "aux_*_relu", *HEADS),
)
INCEPTION = {
    "quick": dataclasses.replace(
        _TRAINED,
        examples=(None, 100, None),
        probed=(1200, 300, 800),
        moments=(30, 60, 100),
        batch_size=32,
        momentum=0.8,
    ),
    "full": dataclasses.replace(
        _TRAINED,
        needs=("cifar10",),
        dataset="cifar10",
        examples=(None, 500, None),
        probed=(5000, 1000, 2000),
        moments=(50, 150, 400, 800),
        batch_size=64,
        learning_rate=3e-4,
        momentum=0.9,
    ),
}


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self):
        """As a percentage."""
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %"

    def above(self, other):
        """How much larger this is than another.

        Both are of the same test examples, so that the standard error is rather too large: what is
        hard for one probe is hard for another.
        """
        return Estimate(self.value - other.value, math.hypot(self.error, other.error))

    @property
    def told(self):
        """Whether it is off 0 by more than two standard errors."""
        return abs(self.value) > 2 * self.error


def errors(report):
    """Returns {tap: the test error of its probe}, in order of depth."""
    return {probe["tap"]["name"]: _test_error(probe["measures"]) for probe in report["probes"]}


def own_errors(report):
    """Returns the network's own test errors, one a head; none if it has other classes."""
    return [_test_error(measures) for measures in report["own"]["class"].values()]


def _test_error(measures):
    return Estimate(measures["test"]["error"], measures["test"]["standard_error"])


class Descent(NamedTuple):
    """How errors go down along a path through a network.

    Attributes:
        steps, falling: from each place to the next, and how many of them go down.
        fall: from the first place to the last.
        largest_step: the most that one step goes down.
        rise: of an error above one before it, the one that is least likely to be chance.
    """

    steps: int
    falling: int
    fall: Estimate
    largest_step: float
    rise: Estimate

    def __str__(self):
        """For a claim's measured side."""
        rise = "no error is above an earlier one"
        if self.rise.value > 0:
            rise = f"an error is above an earlier one by {self.rise}"
        return (
            f"{self.falling} of {self.steps} steps go down, the largest by"
            f" {100 * self.largest_step:.1f} %, and {rise}"
        )

    @property
    def rises(self):
        """Whether an error is above one before it by more than chance."""
        return self.rise.value > 0 and self.rise.told

    def verdict(self, told):
        """Whether errors go down nearly monotonically: they do, and rise by chance at most.

        Args:
            told: whether the network is one that this can be asked of.
        """
        # A rise is only missed for certain if it would be seen: if a mean step would.
        seen = self.fall.value / self.steps > 2 * self.rise.error
        return verdict(self.fall.value > 0 and not self.rises, told=told and (seen or self.rises))


def descent(path):
    """Returns the `Descent` of a list of `Estimate`s."""
    pairs = list(itertools.pairwise(path))
    rises = [late.above(early) for at, late in enumerate(path) for early in path[:at]]
    return Descent(
        steps=len(pairs),
        falling=sum(after.value < before.value for before, after in pairs),
        fall=path[0].above(path[-1]),
        largest_step=max(before.value - after.value for before, after in pairs),
        rise=max(rises, key=lambda rise: rise.value - 2 * rise.error),
    )


def tells(report, rises):
    """Whether a network is one that can be asked if errors fall with its depth.

    One that was trained here for the probes' classes has learnt what its layers know: its own
    error is as low as any probe's. One that was trained for other classes shows that they fall; a
    rise may come from that its last blocks forget what tells these classes apart.

    Args:
        report: of its probes.
        rises: whether they rise.
    """
    own = own_errors(report)
    if not own:
        return not rises
    off = own[0].above(min(errors(report).values()))
    return off.value <= 0 or not off.told


def main_path(report):
    """Returns the report of an Inception v3 from its input to mixed10, without heads."""

    def on_it(tap):
        return tap not in HEADS and not tap.startswith("aux_")

    return {
        **report,
        "probes": [probe for probe in report["probes"] if on_it(probe["tap"]["name"])],
        "edges": [edge for edge in report["edges"] if all(map(on_it, edge))],
    }


def examples_note(config, found):
    """Says how many examples the probes had."""
    count = found["examples"]
    return (
        f"Probes of {DATASETS[config.dataset]}: {count['train']:,} training,"
        f" {count['validation']:,} validation and {count['test']:,} test examples."
    )


def training_note(config, found):
    """Says how the network was trained."""
    note = (
        f"The network was trained here on {found['trained_on']:,} examples for"
        f" {config.moments[-1]:,} steps of {config.batch_size}."
    )
    if config.momentum is not None:
        steps = 1 / (1 - config.momentum)
        note += (
            f" Its batch normalisation averages over about {steps:.0f} steps and not over a"
            " hundred, as the training is so short."
        )
    return note


def report_of(moment):
    """Makes a `ProbeReport` of what a result holds; its probes have no weights."""
    import numpy as np

    from thesis_tf import probes
    from thesis_tf.persistence import files

    count = len(moment["report"]["probes"])
    # A picture shows errors alone.
    none = {f"{kind}_{i}": np.zeros((0, 0)) for kind in ("weights", "bias") for i in range(count)}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files.write_json(folder / "report.json", moment["report"])
        np.savez(folder / "probes.npz", **none)
        return probes.ProbeReport.load(folder)


def draw_networks(moments, path):
    """Draws Inception v3's at {panel title: moment}, coloured by the probes' errors."""
    from thesis_tf import probes

    several = len(moments) > 1
    panels = {name if several else "": _narrow(report_of(m)) for name, m in moments.items()}
    probes.draw_networks(panels, path)


def _narrow(report):
    """Gives taps shorter names, as the longest of them says how wide a picture is."""

    def renamed(probe):
        name = _SHORT.get(probe.tap.name, probe.tap.name)
        return dataclasses.replace(probe, tap=dataclasses.replace(probe.tap, name=name))

    return dataclasses.replace(
        report,
        probes=tuple(renamed(probe) for probe in report.probes),
        edges=tuple(tuple(_SHORT.get(tap, tap) for tap in edge) for edge in report.edges),
    )
