"""Figure 3.7: maxima of the density that r implies, where there are no data."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

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
    " the other with more, up to half the extent of the data, on half of the examples. Far points"
    " that follow r come to rest at dots and crosses; at crosses there are no data."
    " Above: a square twice as wide as the data; below: one that holds all crosses. The repeat"
    " with the most far points that end at crosses is drawn."
)
if TYPE_CHECKING:
    from thesis_tf.autoencoders import Attractors, ScoreEstimator

NOISES = {"plain": "noise of .01", "sampled": "larger noise too"}
_SEEN, _ARROWS = 3000, 15  # points that are drawn, and arrows a side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What is trained, and how maxima are searched.

    Attributes:
        networks: with noise of sigma alone, a `manifold_dae.Config` for each repeat.
        far_points: points of a box twice as wide as the data, which follow r.
    """

    networks: tuple[manifold_dae.Config, ...]
    far_points: int = 1000


def _repeats(count: int, **settings: Any) -> tuple[manifold_dae.Config, ...]:
    return tuple(manifold_dae.Config(repeat=repeat, **settings) for repeat in range(count))


CONFIGS = {
    "quick": Config(networks=_repeats(3), expected_seconds=20),
    "full": Config(networks=_repeats(6, examples=20_000), expected_seconds=85),
}


# {kind of noise: what was trained with it}, and which network that was.
_Found: TypeAlias = dict[str, tuple["ScoreEstimator", "Attractors"]]
_Drawn: TypeAlias = tuple[manifold_dae.Config, _Found]


def run(config: Config) -> dict[str, Any]:
    """Trains both kinds for every repeat, and follows r from far starts."""
    repeats: list[dict[str, Any]] = []
    drawn: _Drawn | None = None
    for plain in config.networks:
        found = {
            noise: _follow(dataclasses.replace(plain, noise=noise), config.far_points)
            for noise in NOISES
        }
        repeats.append({noise: numbers for noise, (numbers, _) in found.items()})
        worst = max(repeat["plain"]["fraction_at_spurious"] for repeat in repeats)
        if drawn is None or repeats[-1]["plain"]["fraction_at_spurious"] == worst:
            drawn = plain, {noise: kept for noise, (_, kept) in found.items()}
    assert drawn is not None  # there is a repeat
    return {
        "repeats": repeats,
        "drawn": _fields(*drawn),
        "far_points": config.far_points,
        "notes": [
            f"{plain.examples:,} points, each with noise {plain.copies} times, {plain.units:,}"
            f" hidden units (1,000 in the thesis) that begin on noisy examples, {plain.iterations}"
            f" iterations of L-BFGS; {len(repeats)} draws of data, noise and weights."
        ],
    }


def _follow(
    network: manifold_dae.Config, count: int
) -> tuple[dict[str, Any], tuple["ScoreEstimator", "Attractors"]]:
    """Returns the numbers of one auto-encoder; and its estimator and attractors."""
    from bin.reproduction.chapters.chapter_3 import common
    from thesis_tf import autoencoders

    found = manifold_dae.trained(network)
    estimator = manifold_dae.estimator(network, found)
    x = manifold_dae.load(network).train.x
    points = autoencoders.far_points(x, count, seed=network.draw)
    attractors = autoencoders.find_attractors(estimator, x, points)
    return {
        **attractors.summary(),
        "losses": manifold_dae.losses(network, found),
        "directions": common.directions(estimator, x),
    }, (estimator, attractors)


def _fields(network: manifold_dae.Config, found: _Found) -> dict[str, Any]:
    """Returns the fields of both auto-encoders, near the data and with all attractors in view."""
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


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws both fields near the data and from afar, with attractors."""
    from bin.reproduction.chapters.chapter_3 import common

    drawn = result["drawn"]
    rows = [
        [{"title": NOISES[noise] + said, **drawn[row][noise]} for noise in NOISES]
        for row, said in (("near", ""), ("far", ", from afar"))
    ]
    common.draw_fields(drawn["data"], rows, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Checks whether there are spurious maxima, and whether larger noise removes them."""
    counts, fractions, losses, right = (
        {noise: np.array([get(repeat[noise]) for repeat in result["repeats"]]) for noise in NOISES}
        for get in (
            lambda found: found["spurious_attractors"],
            lambda found: found["fraction_at_spurious"],
            lambda found: found["losses"]["r"],
            lambda found: found["directions"]["everywhere"],
        )
    )
    fewer, error = _mean_and_error(fractions["plain"] - fractions["sampled"])
    return [
        Claim(
            "Trained with small noise alone, r can have attractors where there are no data.",
            NO_NUMBER,
            f"{_listed(counts['plain'])} of them in {len(result['repeats'])} repeats;"
            f" {_listed(fractions['plain'], '.1%')} of {result['far_points']:,} far points end"
            " there",
            verdict(counts["plain"].any()),
        ),
        Claim(
            "Larger noise in training removes them, or leaves fewer.",
            NO_NUMBER,
            f"{_listed(counts['sampled'])} of them, where {_listed(fractions['sampled'], '.1%')} of"
            f" the far points end: fewer by {fewer:.1%} ± {error:.1%}",
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


def _mean_and_error(differences: npt.NDArray[Any]) -> tuple[float, float]:
    """Returns the mean of one difference per repeat, and its standard error (infinite for one)."""
    count = len(differences)
    error = np.std(differences, ddof=1) / count**0.5 if count > 1 else np.inf
    return float(np.mean(differences)), float(error)


def _listed(numbers: npt.NDArray[Any], form: str = "d") -> str:
    return ", ".join(f"{number:{form}}" for number in numbers)
