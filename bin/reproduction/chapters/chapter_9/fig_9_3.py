"""Figure 9.3: probes on every layer of the MNIST convnet, before and after training."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Errors, Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, Verdict, verdict

TITLE = "Test errors of linear probes in a convolutional network, before and after training"
CAPTION = (
    "The network of figure 9.2. Probes use 1,000 random features of a layer (section 9.3.4), and"
    " their loss is within 0.001 nats of its minimum, so longer training would not improve them."
    " The thesis draws two bar charts; this figure draws both as curves. Error bars are standard"
    " errors."
)
# In the thesis, probes have 50,000 training examples, and 10,000 more for early stopping.
THESIS_EXAMPLES = 50_000
# The thesis gives percentages without decimals, so they are exact to half a percent.
THESIS_START, THESIS_END, ROUNDING = 0.08, 0.02, 0.005
# Without the layers that scale pixels and flatten maps, which don't change the error.
TAPS = ("input", "conv*", "fc1*", "logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The probed network.

    Attributes:
        network: the network, probed at step 0 and after training.
    """

    network: probed_network.Config


_NETWORK = probed_network.Config(
    model="mnist_convnet", taps=TAPS, reduction="subset:1000", moments=(0, 189)
)
CONFIGS = {
    "quick": Config(network=_NETWORK, expected_seconds=27),
    "full": Config(
        needs=("mnist",),
        network=dataclasses.replace(_NETWORK, needs=("mnist",), dataset="mnist", moments=(0, 1263)),
        expected_seconds=195,
    ),
}


def run(config: Config) -> Result:
    """Probes the network, trains it for three epochs, and probes it again."""
    found = probed_network.reports(config.network)
    notes = [
        common.examples_note(config.network, found),
        common.training_note(config.network, found),
    ]
    return {**found, "notes": notes}


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws both curves."""
    from thesis_tf import probes

    start, end = (common.report_of(moment) for moment in result["moments"])
    probes.draw_curves({"at initialization": start, "after training": end}, path)


def claims(result: Result) -> list[Claim]:
    """Claims: random features reduce the error, mostly at the first ReLU; training adds to this."""
    start, end = (common.errors(moment["report"]) for moment in result["moments"])
    enough = result["examples"]["train"] >= THESIS_EXAMPLES
    return [_random_features(start), _fall(start, enough), _drop(start), _kink(end)]


def _random_features(start: Errors) -> Claim:
    first, *others = start.values()
    gain = first.above(min(others))
    return Claim(
        "At initialization random features make the classes easier to tell.",
        NO_NUMBER,
        f"the error falls by {gain}, from {first} at the input",
        verdict(gain.value > 0, told=gain.told),
    )


def _fall(start: Errors, enough: bool) -> Claim:
    best = min(start, key=lambda tap: start[tap])
    near = all(
        abs(start[tap].value - thesis) <= ROUNDING + 2 * start[tap].error
        for tap, thesis in (("input", THESIS_START), (best, THESIS_END))
    )
    return Claim(
        "At initialization the error falls from about 8 % at the input to about 2 %.",
        "8 %, 2 %",
        f"{start['input']} at the input, {start[best]} at {best}",
        verdict(near, told=enough),
    )


def _drop(start: Errors) -> Claim:
    drops = {tap: start[before].above(start[tap]) for before, tap in itertools.pairwise(start)}
    first, second = sorted(drops, key=lambda tap: -drops[tap].value)[:2]
    return Claim(
        "At initialization the error falls most at the first ReLU.",
        NO_NUMBER,
        f"by {drops[first]} at {first}, by {drops[second]} at {second}",
        verdict(first == "conv1_relu", told=drops[first].above(drops[second]).told),
    )


def _kink(end: Errors) -> Claim:
    steps = {tap: end[tap].above(end[before]) for before, tap in itertools.pairwise(end)}
    kinks = {tap: step for tap, step in steps.items() if step.value >= 0}
    beyond_chance = [tap for tap, step in kinks.items() if step.told]
    found = Verdict.CANNOT_TELL
    if len(kinks) <= 1:
        found = Verdict.HOLDS
    elif len(beyond_chance) > 1:
        found = Verdict.DOES_NOT_HOLD
    path = list(end.values())
    shown = ", ".join(f"{tap}: {step}" for tap, step in kinks.items())
    return Claim(
        "After training the error falls at every layer except for a kink.",
        NO_NUMBER,
        f"{len(steps) - len(kinks)} of {len(steps)} steps decrease it, from {path[0]} to {path[-1]}"
        + (f"; the others: {shown}" if kinks else ""),
        found,
    )
