"""Figure 3.7: maxima of the density that r implies, where there are no data."""

import dataclasses

import numpy as np

from bin.reproduction.chapters.chapter_3.studies import manifold_dae
from bin.reproduction.engine.contract import (
    NO_NUMBER,
    Claim,
    Settings,
    verdict,
    verdict_of_difference,
)

TITLE = "Spurious maxima far from the data, and larger noise against them"
CAPTION = (
    "The field r(x) - x of two auto-encoders of the spiral, one trained with noise of .01 alone,"
    " the other with more, up to half the extent of the data, on half of the examples. Points that"
    " follow r from far starts come to rest at dots and crosses; at crosses there are no data."
    " Above: a square twice as wide as the data; below: one that holds all crosses. Of the repeats"
    " that one is drawn in which most far starts end at crosses."
)
NOISES = {"plain": "noise of .01", "sampled": "larger noise too"}
_SEEN, _ARROWS = 3000, 15  # points that are drawn, and arrows a side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is trained, and how maxima are looked for.

    Attributes:
        networks: with noise of sigma alone, a `manifold_dae.Config` for each repeat.
        starts: points of a box twice as wide as the data, that follow r.
    """

    networks: tuple
    starts: int = 1000


def _repeats(count, **settings):
    return tuple(manifold_dae.Config(repeat=repeat, **settings) for repeat in range(count))


CONFIGS = {
    "quick": Config(networks=_repeats(3), expected_seconds=20),
    "full": Config(networks=_repeats(6, examples=20_000), expected_seconds=85),
}


def run(config):
    """Trains both kinds for every repeat, and follows r from far starts."""
    repeats, drawn = [], None
    for plain in config.networks:
        found = {
            noise: _follow(dataclasses.replace(plain, noise=noise), config.starts)
            for noise in NOISES
        }
        repeats.append({noise: numbers for noise, (numbers, _) in found.items()})
        worst = max(repeat["plain"]["starts_at_spurious"] for repeat in repeats)
        if drawn is None or repeats[-1]["plain"]["starts_at_spurious"] == worst:
            drawn = plain, {noise: what for noise, (_, what) in found.items()}
    return {
        "repeats": repeats,
        "drawn": _fields(*drawn),
        "starts": config.starts,
        "notes": [
            f"{plain.examples:,} points, each with noise {plain.copies} times, {plain.units:,}"
            f" hidden units (1,000 in the thesis) that begin on noisy examples, {plain.iterations}"
            f" iterations of L-BFGS; {len(repeats)} draws of data, noise and weights."
        ],
    }


def _follow(network, count):
    """Returns numbers of one auto-encoder; and itself, with its attractors."""
    from bin.reproduction.chapters.chapter_3 import common
    from thesis_tf import autoencoders

    found = manifold_dae.trained(network)
    estimator = manifold_dae.estimator(network, found)
    x = manifold_dae.load(network).train.x
    starts = autoencoders.far_starts(x, count, network.draw)
    attractors = autoencoders.find_attractors(estimator, x, starts)
    return {
        **attractors.summary(),
        "losses": manifold_dae.losses(network, found),
        "directions": common.directions(estimator, x),
    }, (estimator, attractors)


def _fields(network, found):
    """The fields of both auto-encoders, near the data and from where all attractors are seen."""
    from bin.reproduction.chapters.chapter_3 import common

    x = manifold_dae.load(network).train.x
    middle, reach = common.middle_and_reach(x)
    ends = np.concatenate([attractors.points for _, attractors in found.values()])
    farthest = np.abs(ends - middle).max() if len(ends) else 0.0
    rows = {"near": reach, "far": max(2 * reach, 1.15 * farthest)}
    return {"data": x[:_SEEN]} | {
        row: {
            noise: common.field(estimator, middle, reach, _ARROWS)
            | {"attractors": attractors.points, "spurious": attractors.spurious}
            for noise, (estimator, attractors) in found.items()
        }
        for row, reach in rows.items()
    }


def draw(result, path):
    """Draws both fields near the data and from afar, with attractors."""
    from bin.reproduction.chapters.chapter_3 import common

    drawn = result["drawn"]
    rows = [
        [{"title": NOISES[noise] + said, **drawn[row][noise]} for noise in NOISES]
        for row, said in (("near", ""), ("far", ", from afar"))
    ]
    common.draw_fields(drawn["data"], rows, path)


def claims(result):
    """Whether there are spurious maxima, and whether larger noise removes them."""
    counts, shares, losses, right = (
        {noise: np.array([get(repeat[noise]) for repeat in result["repeats"]]) for noise in NOISES}
        for get in (
            lambda found: found["spurious_attractors"],
            lambda found: found["starts_at_spurious"],
            lambda found: found["losses"]["r"],
            lambda found: found["directions"]["everywhere"],
        )
    )
    fewer, error = _mean_and_error(shares["plain"] - shares["sampled"])
    return [
        Claim(
            "Trained with small noise alone, r can have attractors where there are no data.",
            NO_NUMBER,
            f"{_listed(counts['plain'])} of them in {len(result['repeats'])} repeats;"
            f" {_listed(shares['plain'], '.1%')} of {result['starts']:,} far starts end there",
            verdict(counts["plain"].any()),
        ),
        Claim(
            "Larger noise in training removes them, or leaves fewer.",
            NO_NUMBER,
            f"{_listed(counts['sampled'])} of them, where {_listed(shares['sampled'], '.1%')} of"
            f" the starts end: fewer by {fewer:.1%} ± {error:.1%}",
            verdict_of_difference(fewer, error),
        ),
        Claim(
            "With larger noise more arrows lead to the data from far away.",
            NO_NUMBER,
            f"{_listed(right['sampled'], '.1%')} of those over the square twice as wide as the data"
            " are less than a right angle off the nearest example,"
            f" {_listed(right['plain'], '.1%')} without; test loss / sigma^2"
            f" {losses['sampled'].mean():.3f} and {losses['plain'].mean():.3f}",
            verdict_of_difference(*_mean_and_error(right["sampled"] - right["plain"])),
        ),
    ]


def _mean_and_error(differences):
    """The mean of one difference a repeat, and its standard error (infinite if there is one)."""
    count = len(differences)
    error = np.std(differences, ddof=1) / count**0.5 if count > 1 else np.inf
    return float(np.mean(differences)), float(error)


def _listed(numbers, form="d"):
    return ", ".join(f"{number:{form}}" for number in numbers)
