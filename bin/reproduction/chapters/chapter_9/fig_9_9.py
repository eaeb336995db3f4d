"""Figure 9.9: Inception v3 with an auxiliary head, at moments of its training."""

from __future__ import annotations

import dataclasses
import pathlib

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Measurement, Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, Verdict

TITLE = "Inception v3 with an auxiliary head, in the colors of its probes' errors, as it learns"
CAPTION = (
    "Red means a large error; green and blue mean a small one. The auxiliary head branches off the"
    " main path at mixed7. Each panel is one moment of training. The thesis shows minibatches"
    " 1,515, 50,389, 100,876 and 308,230 on ImageNet, which is not public; this training is much"
    " shorter and uses another data set. Standard errors are over the test examples; another"
    " training may differ by more."
)
AFTER = ("9.5",)  # figure 9.5 shows the last moment of the same training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The probed network.

    Attributes:
        network: the network, probed at several moments.
    """

    network: probed_network.Config


CONFIGS = {
    "quick": Config(network=common.INCEPTION["quick"], expected_seconds=4),
    "full": Config(needs=("cifar10",), network=common.INCEPTION["full"], expected_seconds=5),
}


def run(config: Config) -> Result:
    """Trains the network and probes it at each moment."""
    network = config.network
    found = probed_network.reports(network)
    notes = [
        f"Images of {network.image_size} pixels.",
        common.examples_note(network, found),
        common.training_note(network, found),
    ]
    return {**found, "notes": notes}


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws the network at each moment."""
    common.draw_networks({f"step {m['step']:,}": m for m in result["moments"]}, path)


def claims(result: Result) -> list[Claim]:
    """Claims: errors fall at all taps, and the auxiliary head is better early in training."""
    moments = result["moments"]
    return [_everywhere(moments), _early(moments[0]), _late(moments[-1])]


def _everywhere(moments: list[Result]) -> Claim:
    early, late = (common.errors(moments[at]["report"]) for at in (0, -1))
    falls = {tap: early[tap].above(late[tap]) for tap in early if tap != "input"}
    rising = [tap for tap, fall in falls.items() if fall.value <= 0]
    found = Verdict.CANNOT_TELL
    if not rising:
        found = Verdict.HOLDS
    elif any(falls[tap].told for tap in rising):
        found = Verdict.DOES_NOT_HOLD
    least = min(falls, key=lambda tap: falls[tap].value)
    return Claim(
        "During training the probes' errors fall everywhere.",
        NO_NUMBER,
        f"from step {moments[0]['step']:,} to {moments[-1]['step']:,} at"
        f" {len(falls) - len(rising)} of {len(falls)} taps, least at {least}: by {falls[least]}",
        found,
    )


def _early(moment: Result) -> Claim:
    leads, shown = _leads(moment)
    found = Verdict.CANNOT_TELL
    if all(lead.told for lead in leads) and leads[0].value * leads[1].value > 0:
        found = Verdict.HOLDS if leads[0].value > 0 else Verdict.DOES_NOT_HOLD
    return Claim(
        "The auxiliary head learns first: early in training its error is below the main head's.",
        NO_NUMBER,
        shown,
        found,
    )


def _late(moment: Result) -> Claim:
    leads, shown = _leads(moment)
    ahead = [lead.told and lead.value > 0 for lead in leads]
    found = Verdict.CANNOT_TELL
    if not any(ahead):
        found = Verdict.HOLDS
    elif all(ahead):
        found = Verdict.DOES_NOT_HOLD
    return Claim("Later the auxiliary head has no advantage.", NO_NUMBER, shown, found)


def _leads(moment: Result) -> tuple[list[Measurement], str]:
    """Returns the advantage of the auxiliary head, by its error and by a probe on its logits.

    The head's error is affected by moving averages of batch normalization, which lag behind; the
    probe's error is not. If the two disagree, the claim can't be judged.
    """
    heads = common.model_errors(moment["report"])
    probes = [common.errors(moment["report"])[head] for head in common.HEADS]
    leads = [main.above(auxiliary) for main, auxiliary in (heads, probes)]
    return leads, (
        f"at step {moment['step']:,} the auxiliary head's error is {heads[1]}, the main head's"
        f" {heads[0]}; probes on their logits {probes[1]} and {probes[0]}"
    )
