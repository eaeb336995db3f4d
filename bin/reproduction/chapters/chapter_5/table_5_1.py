"""Table 5.1: test log-likelihoods of digits, estimated by a Parzen window on samples."""

import dataclasses
import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_5 import common
from bin.reproduction.chapters.chapter_5.studies import gsn_chains
from bin.reproduction.engine.contract import (
    NO_NUMBER,
    Claim,
    Settings,
    Verdict,
    verdict_of_difference,
)

TITLE = "Test log-likelihoods of digits, estimated by a Parzen window on samples"
CAPTION = (
    "All rows use the same protocol: the samples are the means E[x | H] of 8 chains that begin at"
    " training examples, and sigma is chosen on validation images. For the row of real images, the"
    " samples are the same number of training examples. Bars are standard errors over test images"
    " and over chains; they don't include the variation between trainings. The conservative"
    " estimate is the mean of P(x | h) over the same states and needs no window. Diamonds without a"
    " bar are the thesis' numbers, which use another protocol: one chain that begins at a test"
    " image, and a sigma of 0.2 for all rows."
)
AFTER = ("5.4", "5.6", "5.9")
REAL = "training images"
THESIS = {REAL: 24, "DAE": -152, "GSN-2": 214}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The networks whose log-likelihood is estimated.

    Attributes:
        names: the names of the rows.
        networks: one network per row.
    """

    names: tuple[str, ...]
    networks: tuple[gsn_chains.Config, ...]


CONFIGS = {
    budget: Config(
        names=tuple(networks),
        networks=tuple(networks.values()),
        needs=networks["DAE"].needs,
        expected_seconds={"quick": 58, "full": 450}[budget],
    )
    for budget, networks in common.NETWORKS.items()
}


def run(config: Config) -> dict[str, Any]:
    """Returns the rows: estimates, and a classifier's judgment of samples."""
    from thesis_tf import gsn

    splits = gsn_chains.inputs(config.networks[0])
    count, steps, thin = config.networks[0].scored
    many = min(count * (steps // thin), len(splits.train))
    reference = gsn.parzen_log_likelihood(splits.train.x[:many], splits.test.x, splits.validation.x)
    rows, notes = [{"name": REAL, "parzen": reference.summary()}], []
    for name, network in zip(config.names, config.networks, strict=True):
        found = gsn_chains.samples(network)
        kept = ("parzen", "conservative", "mixing", "quality")
        rows.append({"name": name} | {key: found["stages"][-1][key] for key in kept})
        notes.append(common.note(name, network, found))
    return {
        "rows": rows,
        "samples": many,
        "notes": [
            f"{many:,} samples per row: every {thin}th step of {count} chains of {steps:,} steps,"
            f" or {many:,} training images.",
            *notes,
            *common.smaller(config.networks[0]),
        ],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the estimates of every row with error bars, and the thesis' numbers."""
    from thesis_tf.gsn.plots import CHAIN, DATA, EXACT
    from thesis_tf.plotting import style

    rows = result["rows"]
    figure = style.new_figure(7.2, 0.55 * len(rows) + 1.2)
    axes = figure.subplots()
    style.style_axes(axes, "test log-likelihood, nats", "")
    for key, color in (("parzen", DATA), ("conservative", CHAIN)):
        label: str | None = common.ESTIMATES[key]
        for place, row in enumerate(rows):
            if key in row:
                mean, error = common.nats(row[key])
                axes.errorbar(
                    mean, place, xerr=2 * error, fmt="o", color=color, capsize=3, label=label
                )
                said = common.shown(mean, error, 0)
                style.draw_text(axes, mean, place - 0.33, said, 8)
                label = None
    places = {row["name"]: place for place, row in enumerate(rows)}
    known = {places[name]: value for name, value in THESIS.items() if name in places}
    axes.plot(
        list(known.values()), list(known), "D", ms=5, color=EXACT, label="the thesis (Parzen)"
    )
    axes.set_yticks(list(places.values()), list(places))
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.margins(x=0.08)
    style.add_legend(axes, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3)
    style.save(figure, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the thesis' numbers, and the order of its rows."""
    rows = {row["name"]: row for row in result["rows"]}
    return [
        *(_number(rows[name], value, result["samples"]) for name, value in THESIS.items()),
        _above("GSN-2 is a better model than the denoising auto-encoder.", "GSN-2", "DAE", rows),
        _above(
            "Walkback makes the denoising auto-encoder a better model.",
            "DAE, walkback",
            "DAE",
            rows,
        ),
        _above("Samples of GSN-2 score higher than real training images.", "GSN-2", REAL, rows),
    ]


def _number(row: dict[str, Any], value: int, samples: int) -> Claim:
    mean, error = common.nats(row["parzen"])
    return Claim(
        f"The log-likelihood of {row['name']} is {value} nats.",
        f"{value}",
        f"{common.shown(mean, error, 0)}, from {samples:,} samples with the protocol above, which"
        " differs from the thesis' protocol",
        # Numbers of two protocols may be equal or differ for any model.
        Verdict.CANNOT_COMPARE,
    )


def _above(sentence: str, name: str, other: str, rows: dict[str, Any]) -> Claim:
    difference, error = common.more_nats(rows[name]["parzen"], rows[other]["parzen"])
    both = [THESIS.get(n) for n in (name, other)]
    return Claim(
        sentence,
        NO_NUMBER if None in both else f"{both[0]} and {both[1]}",
        f"{name} {common.shown(*common.nats(rows[name]['parzen']), 0)}, {other}"
        f" {common.shown(*common.nats(rows[other]['parzen']), 0)}: a difference of"
        f" {common.shown(difference, error, 0)} nats",
        verdict_of_difference(difference, error),
    )
