"""Shared by the figures of chapter 9: errors in probes' reports, and Inception v3."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import Verdict, verdict

if TYPE_CHECKING:
    from thesis_tf.probes import Probe, ProbeReport

# JSON-serializable values; a report is the result of `ProbeReport.to_json`.
Result: TypeAlias = dict[str, Any]

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


class Measurement(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        """Returns the number as a percentage."""
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %"

    def above(self, other: Measurement) -> Measurement:
        """Returns the difference between this measurement and another.

        The standard error is too large rather than too small: both measurements are on the same
        test examples, and examples that are difficult for one probe tend to be difficult for
        another.
        """
        return Measurement(self.value - other.value, math.hypot(self.error, other.error))

    @property
    def told(self) -> bool:
        """Whether the number differs from 0 by more than two standard errors."""
        return abs(self.value) > 2 * self.error


Errors: TypeAlias = dict[str, Measurement]


def errors(report: Result) -> Errors:
    """Returns {tap: the test error of its probe}, in order of depth."""
    return {probe["tap"]["name"]: _test_error(probe["metrics"]) for probe in report["probes"]}


def model_errors(report: Result) -> list[Measurement]:
    """Returns the network's test errors, one per head; empty if the network has other classes."""
    return [_test_error(metrics) for metrics in report["model_error"]["class"].values()]


def _test_error(metrics: Result) -> Measurement:
    return Measurement(metrics["test"]["error"], metrics["test"]["standard_error"])


class Descent(NamedTuple):
    """How the error decreases along a path of taps through a network.

    Attributes:
        steps, falling: the number of steps between consecutive taps, and of those that decrease
            the error.
        fall: the decrease from the first tap to the last.
        largest_step: the largest decrease in one step.
        rise: the increase of an error over an earlier one that is least likely due to chance.
    """

    steps: int
    falling: int
    fall: Measurement
    largest_step: float
    rise: Measurement

    def __str__(self) -> str:
        """Returns a phrase for the measured side of a claim."""
        rise = "no error is above an earlier one"
        if self.rise.value > 0:
            rise = f"one error is above an earlier one by {self.rise}"
        return (
            f"{self.falling} of {self.steps} steps go down, the largest by"
            f" {100 * self.largest_step:.1f} %, and {rise}"
        )

    @property
    def rises(self) -> bool:
        """Whether an error is above an earlier error by more than chance."""
        return self.rise.value > 0 and self.rise.told

    def verdict(self, told: bool) -> Verdict:
        """Returns whether errors decrease nearly monotonically, with no rise beyond chance.

        Args:
            told: whether this network can support or refute the claim.
        """
        # The absence of a rise is significant only if a rise of a mean step would be detected.
        seen = self.fall.value / self.steps > 2 * self.rise.error
        return verdict(self.fall.value > 0 and not self.rises, told=told and (seen or self.rises))


def descent(path: Sequence[Measurement]) -> Descent:
    """Returns the `Descent` of a list of `Measurement`s."""
    pairs = list(itertools.pairwise(path))
    rises = [late.above(early) for at, late in enumerate(path) for early in path[:at]]
    return Descent(
        steps=len(pairs),
        falling=sum(after.value < before.value for before, after in pairs),
        fall=path[0].above(path[-1]),
        largest_step=max(before.value - after.value for before, after in pairs),
        rise=max(rises, key=lambda rise: rise.value - 2 * rise.error),
    )


def tells(report: Result, rises: bool) -> bool:
    """Whether a network can support or refute the claim that errors decrease with depth.

    A network that was trained here for the probes' classes has learned enough if its error is at
    most as large as that of any probe. A network that was trained for other classes can support the
    claim, but not refute it: errors may rise because its last blocks discard information that
    distinguishes the probes' classes.

    Args:
        report: the report of its probes.
        rises: whether errors rise.
    """
    found = model_errors(report)
    if not found:
        return not rises
    off = found[0].above(min(errors(report).values()))
    return off.value <= 0 or not off.told


def main_path(report: Result) -> Result:
    """Returns the report of an Inception v3, restricted to taps from the input to mixed10."""

    def on_it(tap: str) -> bool:
        return tap not in HEADS and not tap.startswith("aux_")

    return {
        **report,
        "probes": [probe for probe in report["probes"] if on_it(probe["tap"]["name"])],
        "edges": [edge for edge in report["edges"] if all(map(on_it, edge))],
    }


def examples_note(config: probed_network.Config, found: Result) -> str:
    """Returns a note on the probes' examples."""
    count = found["examples"]
    return (
        f"Probes of {DATASETS[config.dataset]}: {count['train']:,} training,"
        f" {count['validation']:,} validation and {count['test']:,} test examples."
    )


def training_note(config: probed_network.Config, found: Result) -> str:
    """Returns a note on the training of the network."""
    note = (
        f"The network was trained here on {found['trained_on']:,} examples for"
        f" {config.moments[-1]:,} steps of {config.batch_size}."
    )
    if config.momentum is not None:
        steps = 1 / (1 - config.momentum)
        note += (
            f" Since the training is short, its batch normalization averages over about {steps:.0f}"
            " steps instead of a hundred."
        )
    return note


def report_of(moment: Result) -> ProbeReport:
    """Returns the `ProbeReport` of a result from its JSON form; its probes have no weights."""
    from thesis_tf import probes

    return probes.ProbeReport.from_json(moment["report"])


def draw_networks(moments: Mapping[str, Result], path: pathlib.Path) -> None:
    """Draws an Inception v3 for each {panel title: moment}, colored by the probes' errors."""
    from thesis_tf import probes

    several = len(moments) > 1
    panels = {name if several else "": _narrow(report_of(m)) for name, m in moments.items()}
    probes.draw_networks(panels, path)


def _narrow(report: ProbeReport) -> ProbeReport:
    """Gives taps shorter names, since the longest determines the width of a figure."""

    def renamed(probe: Probe) -> Probe:
        name = _SHORT.get(probe.tap.name, probe.tap.name)
        return dataclasses.replace(probe, tap=dataclasses.replace(probe.tap, name=name))

    return dataclasses.replace(
        report,
        probes=tuple(renamed(probe) for probe in report.probes),
        edges=tuple(
            (_SHORT.get(start, start), _SHORT.get(end, end)) for start, end in report.edges
        ),
    )
