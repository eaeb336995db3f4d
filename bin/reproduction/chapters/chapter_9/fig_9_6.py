"""Figure 9.6: a network of 128 layers in which a skip connection makes half of them useless."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_9 import common
from bin.reproduction.chapters.chapter_9.common import Result
from bin.reproduction.chapters.chapter_9.studies import probed_network
from bin.reproduction.engine.contract import (
    NO_NUMBER,
    Claim,
    Settings,
    verdict,
    verdict_of_difference,
)

TITLE = "Probes detect that a skip connection over 64 of 128 layers leaves them dead"
CAPTION = (
    "128 layers of 128 units; the output of the first layer is added to that of the 64th. Test"
    " errors of probes over depth, at the thesis' three moments of training. The optimizer is Adam"
    " with a learning rate of 0.0001. Error bars are standard errors."
)
SKIPPED = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The probed network.

    Attributes:
        network: the network, probed at three moments.
    """

    network: probed_network.Config


def _layer(number: int) -> str:
    return f"fc{number:03d}_relu"


_NETWORK = probed_network.Config(
    model="skip_mlp", moments=(0, 500, 2000), learning_rate=1e-4, reduction="flatten"
)
CONFIGS = {
    "quick": Config(
        network=dataclasses.replace(
            _NETWORK,
            taps=("input", _layer(1), *(_layer(n) for n in range(8, 129, 8)), "skip", "logits"),
            probed=(1500, 400, 1000),
        ),
        expected_seconds=54,
    ),
    "full": Config(
        needs=("mnist",),
        network=dataclasses.replace(
            _NETWORK,
            needs=("mnist",),
            dataset="mnist",
            taps=("input", "fc*_relu", "skip", "logits"),
            probed=(3000, 600, 3000),
        ),
        expected_seconds=160,
    ),
}


def run(config: Config) -> Result:
    """Probes the network before, during and after training."""
    found = probed_network.reports(config.network)
    notes = [
        common.examples_note(config.network, found),
        common.training_note(config.network, found),
    ]
    return {**found, "notes": notes}


def draw(result: Result, path: pathlib.Path) -> None:
    """Draws errors over depth, one line per moment, and the end of the skip connection."""
    from thesis_tf.plotting import style

    figure = style.new_figure(7.2)
    axes = figure.subplots()
    style.style_axes(axes, "layer", "test error")
    axes.axvline(SKIPPED + 0.5, color=style.LINE, linewidth=1, label="the skip connection ends")
    for color, moment in zip(style.CATEGORICAL, result["moments"], strict=False):
        found = common.errors(moment["report"])
        values, spreads = zip(*found.values(), strict=True)
        bars: dict[str, Any] = {"elinewidth": 0.8, "markersize": 2.5, "linewidth": 1.2}
        label = f"step {moment['step']:,}"
        depths = [_depth(tap) for tap in found]
        axes.errorbar(depths, values, spreads, color=color, fmt="o-", label=label, **bars)
    chance = result["moments"][0]["report"]["chance"]["class"]
    axes.axhline(chance, color=style.SOFT, linewidth=1, linestyle=":", label="chance")
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(0, 129, 16))
    style.add_legend(figure, loc="outside lower center", ncols=5)
    style.save(figure, path)


def _depth(tap: str) -> float:
    # The sum comes after layer 64 and before layer 65.
    others: dict[str, float] = {"input": 0, "skip": SKIPPED + 0.5, "logits": 129}
    return others[tap] if tap in others else int(tap[2:5])


def claims(result: Result) -> list[Claim]:
    """Claims: the first half is dead, the second is not, and the training loss looks normal."""
    after = result["moments"][-1]["report"]
    found, chance = common.errors(after), after["chance"]["class"]
    first, dead = found[_layer(1)], found[_layer(SKIPPED)]
    alive, last = found["skip"], found["logits"]
    dies = dead.above(first)
    lives = dead.above(last)
    losses = [_training_loss(moment["report"]) for moment in result["moments"]]
    falls = all(later < earlier for earlier, later in itertools.pairwise(losses))
    step = f"{result['moments'][-1]['step']:,}"
    return [
        Claim(
            "In the half that the skip connection bypasses, errors rise with depth.",
            NO_NUMBER,
            f"at step {step} from {first} after layer 1 to {dead} after layer {SKIPPED}, a rise of"
            f" {dies}",
            verdict_of_difference(dies.value, dies.error),
        ),
        Claim(
            "This half is dead: at its end, the probes' error is at chance.",
            NO_NUMBER,
            f"{dead} after layer {SKIPPED}; chance is {100 * chance:.1f} %",
            verdict(dead.value >= chance - 2 * dead.error),
        ),
        Claim(
            "After the skip connection ends, probes are good again and stay so.",
            NO_NUMBER,
            f"{alive} after the sum and {last} at the logits, {lives} below layer {SKIPPED}",
            verdict_of_difference(min(lives.value, dead.above(alive).value), lives.error),
        ),
        Claim(
            "The training loss looks normal: it doesn't reveal the dead layers.",
            NO_NUMBER,
            f"{', '.join(f'{loss:.2f}' for loss in losses)} nats at the {len(losses)} moments",
            verdict(falls),
        ),
    ]


def _training_loss(report: Result) -> float:
    """Returns the network's loss on the training examples of the probes."""
    (metrics,) = report["model_error"]["class"].values()
    return metrics["train"]["cross_entropy"]
