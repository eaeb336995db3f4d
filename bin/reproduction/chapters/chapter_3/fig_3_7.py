"""Figure 3.7: spurious maxima of the density that r implies, far from the data."""

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
    "The field r(x) - x of two auto-encoders of the spiral. One was trained with noise of 0.01;"
    " the other also with larger noise, up to half the extent of the data, on half of the"
    " examples. Dots and crosses are attractors, where r takes far points; crosses are spurious:"
    " they are far from the data. Top: a square twice as wide as the data. Bottom: a square that"
    " contains all crosses. Of several repeats, the one with the most far points that end at"
    " crosses is drawn."
)
if TYPE_CHECKING:
    from thesis_tf.autoencoders import Attractors, ScoreEstimator

NOISES = {"plain": "noise of 0.01", "sampled": "also larger noise"}
_SEEN, _ARROWS = 3000, 15  # the number of points that are drawn, and of arrows per side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The auto-encoders, and the search for maxima.

    Attributes:
        networks: one `manifold_dae.Config` per repeat, with noise of sigma alone.
        far_points: the number of points, in a box twice as wide as the data, to which r is applied
            repeatedly.
    """

    networks: tuple[manifold_dae.Config, ...]
    far_points: int = 1000


def _repeats(count: int, **settings: Any) -> tuple[manifold_dae.Config, ...]:
    return tuple(manifold_dae.Config(repeat=repeat, **settings) for repeat in range(count))


CONFIGS = {
    "quick": Config(networks=_repeats(3), expected_seconds=20),
    "full": Config(networks=_repeats(6, examples=20_000), expected_seconds=85),
}


# {kind of noise: (estimator, attractors) of the auto-encoder that was trained with it}.
_Found: TypeAlias = dict[str, tuple["ScoreEstimator", "Attractors"]]
_Drawn: TypeAlias = tuple[manifold_dae.Config, _Found]


def run(config: Config) -> dict[str, Any]:
    """Trains both kinds for every repeat, and applies r repeatedly to far points."""
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
    assert drawn is not None  # there is at least one repeat
    return {
        "repeats": repeats,
        "drawn": _fields(*drawn),
        "far_points": config.far_points,
        "notes": [
            f"{plain.examples:,} points, each corrupted {plain.copies} times, {plain.units:,}"
            f" hidden units (1,000 in the thesis) initialized at noisy examples,"
            f" {plain.iterations} iterations of L-BFGS; {len(repeats)} repeats with other data,"
            " noise and weights."
        ],
    }


def _follow(
    network: manifold_dae.Config, count: int
) -> tuple[dict[str, Any], tuple["ScoreEstimator", "Attractors"]]:
    """Returns the measurements of one auto-encoder, its estimator, and its attractors."""
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
    """Returns the fields of both auto-encoders, near the data and around all attractors."""
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
    """Draws both fields, near the data and around all attractors."""
    from bin.reproduction.chapters.chapter_3 import common

    drawn = result["drawn"]
    rows = [
        [{"title": NOISES[noise] + said, **drawn[row][noise]} for noise in NOISES]
        for row, said in (("near", ""), ("far", ", zoomed out"))
    ]
    common.draw_fields(drawn["data"], rows, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: there are spurious maxima, and larger noise removes them."""
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
            f"{_listed(right['sampled'], '.1%')} of the arrows in the square twice as wide as the"
            " data point to the nearest example within 90 degrees,"
            f" {_listed(right['plain'], '.1%')} without larger noise; test loss / sigma^2"
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
