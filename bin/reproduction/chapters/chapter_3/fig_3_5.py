"""Figure 3.5: the field r(x) - x of an auto-encoder that was trained on a spiral."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bin.reproduction.chapters.chapter_3.studies import manifold_dae
from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

if TYPE_CHECKING:
    from thesis_tf.autoencoders import ScoreEstimator

TITLE = "The field r(x) - x around a spiral"
CAPTION = (
    "Points of a spiral, and r(x) - x of a denoising auto-encoder with one layer of tanh units"
    " that was trained on them with noise of standard deviation 0.01. Left: a square twice as wide"
    " as the data. Right: a region between two arms. Arrows have equal lengths; their color shows"
    " the length of r(x) - x. Hidden units are initially centered on noisy examples; the last"
    " claim is about small random initial weights, as in the thesis."
)
# The fraction of a variance, or of points, that may be missed by a claim of "all" or "close".
_LEFT_OUT = 0.05
_SCALE = 0.04  # the spiral is 0.04 t (sin t, cos t)
_SEEN = 3000  # the number of points that are drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The auto-encoders and their evaluation.

    Attributes:
        network: the auto-encoder that is drawn.
        as_in_the_thesis: an auto-encoder with small random initial weights.
        population: the number of points whose kernel density counts as the true density.
        measured: the number of noisy test examples at which scores are compared.
    """

    network: manifold_dae.Config
    as_in_the_thesis: manifold_dae.Config
    population: int = 100_000
    measured: int = 1000


CONFIGS = {
    "quick": Config(
        network=manifold_dae.Config(units=1000),
        as_in_the_thesis=manifold_dae.Config(initialization="keras", iterations=100),
        expected_seconds=13,
    ),
    "full": Config(
        network=manifold_dae.Config(units=1000, examples=20_000),
        as_in_the_thesis=manifold_dae.Config(initialization="keras", iterations=500),
        expected_seconds=40,
    ),
}


def run(config: Config) -> dict[str, Any]:
    """Trains both auto-encoders; returns the field and its errors."""
    from bin.reproduction.chapters.chapter_3 import common

    network = config.network
    found = manifold_dae.trained(network)
    estimator = manifold_dae.estimator(network, found)
    x = manifold_dae.load(network).train.x
    whole = common.field(estimator, *common.middle_and_reach(x))
    close = common.field(estimator, _spiral(np.array([4.5, 4.5 + 2 * np.pi])).mean(axis=0), 0.16)
    slow_config = config.as_in_the_thesis
    slow = manifold_dae.trained(slow_config)
    return {
        "data": x[:_SEEN],
        "whole": whole,
        "close": close,
        "losses": manifold_dae.losses(network, found),
        **_scores(config, estimator),
        "directions": common.directions(estimator, x),
        **_between_arms(estimator),
        "as_in_the_thesis": {
            "losses": manifold_dae.losses(slow_config, slow),
            "iterations": len(slow["losses"]),
            "converged": slow["converged"],
        },
        "notes": [
            f"{network.examples:,} points, each corrupted {network.copies} times,"
            f" {network.units:,} hidden units (1,000 in the thesis) and {network.iterations}"
            f" iterations of L-BFGS; {slow_config.units} units with small random initial weights."
        ],
    }


def _spiral(t: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return _SCALE * t[:, np.newaxis] * np.stack([np.sin(t), np.cos(t)], axis=1)


def _scores(config: Config, estimator: "ScoreEstimator") -> dict[str, dict[str, float]]:
    """Returns errors of scores at noisy points, and lengths of r(x) - x with and without noise."""
    from thesis_tf import autoencoders, datasets
    from thesis_tf.autoencoders import theory

    network, sigma = config.network, config.network.sigma
    splits = manifold_dae.load(network)
    clean = splits.test.x[: config.measured]
    noisy = manifold_dae.noisy(network, splits.test.x)[: config.measured]
    population = datasets.spiral(config.population, seed=network.draw, stream=3)
    true = autoencoders.KernelDensity(population, sigma).score(noisy)
    scores = {
        "r": estimator.score(noisy),
        "kernel density": autoencoders.KernelDensity(splits.train.x, sigma).score(noisy),
    }
    alike = np.ones(len(noisy))
    moves = {name: estimator.reconstruct(x) - x for name, x in (("on", clean), ("off", noisy))}
    return {
        "errors": {k: theory.relative_rmse(v, true, alike) for k, v in scores.items()},
        "moves": {k: float(np.sqrt(np.mean(v**2)) / sigma) for k, v in moves.items()},
    }


def _between_arms(estimator: "ScoreEstimator") -> dict[str, Any]:
    """Returns where r(x) - x changes its sign on lines from the inner arm to the outer arm."""
    t, way = np.linspace(3.2, 5.6, 49), np.linspace(0.1, 0.9, 161)
    inner, outer = _spiral(t), _spiral(t + 2 * np.pi)
    points = inner + way[:, np.newaxis, np.newaxis] * (outer - inner)
    moves = estimator.reconstruct(points.reshape(-1, 2)).reshape(points.shape) - points
    outwards = np.sum(moves * (outer - inner), axis=-1) > 0  # (way, t)
    once = (np.abs(np.diff(outwards, axis=0)).sum(axis=0) == 1) & ~outwards[0] & outwards[-1]
    where = way[np.argmax(outwards, axis=0)][once]
    return {"once": float(once.mean()), "where": where}


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the field as a whole and between two arms."""
    from bin.reproduction.chapters.chapter_3 import common

    panels = [
        {"title": "r(x) − x", **result["whole"]},
        {"title": "between two arms", **result["close"]},
    ]
    common.draw_fields(result["data"], [panels], path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: r(x) - x estimates the score, near the data, far from them and between arms."""
    losses, errors, moves = result["losses"], result["errors"], result["moves"]
    directions, where = result["directions"], result["where"]
    middle = f", on average {np.mean(where):.2f} of the way along" if len(where) else ""
    slow = result["as_in_the_thesis"]
    learned = _learned(slow["losses"])
    return [
        Claim(
            "(r(x) - x) / sigma^2 estimates the score of the density.",
            NO_NUMBER,
            f"relative error of the score at noisy test points: {errors['r']:.1%}, and"
            f" {errors['kernel density']:.1%} for a kernel density of the same examples; test loss"
            f" / sigma^2: {losses['r']:.3f} ({losses['kernel density']:.3f} for the kernel"
            f" density, {losses['identity']:.3f} for r(x) = x)",
            verdict(errors["r"] ** 2 < _LEFT_OUT),
        ),
        Claim(
            "Around the data r(x) - x points to where the density is high.",
            NO_NUMBER,
            f"{directions['near']:.1%} of {directions['near_points']} arrows that begin where noise"
            " can lead point to the nearest example within 90 degrees",
            verdict(directions["near"] >= 1 - _LEFT_OUT),
        ),
        Claim(
            "It does so far from the data as well.",
            NO_NUMBER,
            f"{directions['everywhere']:.1%} of all {directions['points']:,} arrows in a square"
            " twice as wide as the data (for the others see figure 3.7)",
            verdict(directions["everywhere"] >= 1 - _LEFT_OUT),
        ),
        Claim(
            "On the manifold r(x) - x is close to 0.",
            NO_NUMBER,
            f"its root mean square per value is {moves['on']:.2f} sigma at test points and"
            f" {moves['off']:.2f} sigma at noisy test points",
            verdict(moves["on"] ** 2 < _LEFT_OUT * moves["off"] ** 2),
        ),
        Claim(
            "Between two arms r(x) - x is 0 where the density has a minimum, and changes its sign.",
            NO_NUMBER,
            f"exactly one change of sign on {result['once']:.0%} of 49 lines from the inner arm to"
            f" the outer arm{middle}",
            verdict(result["once"] >= 1 - _LEFT_OUT),
        ),
        Claim(
            "A quasi-Newton method trains it from small random weights.",
            NO_NUMBER,
            f"after {slow['iterations']} iterations of L-BFGS {learned:.1%} of what the kernel"
            " density gains over r(x) = x"
            + ("" if slow["converged"] else ", and the loss still falls")
            + f"; {_learned(losses):.1%} from the initialization that is used here",
            # If the fit hasn't converged, its final loss is unknown.
            verdict(learned >= 1 - _LEFT_OUT, told=slow["converged"] or learned >= 1 - _LEFT_OUT),
        ),
    ]


def _learned(losses: dict[str, float]) -> float:
    """Returns the gain of r over the identity, as a fraction of the largest possible gain."""
    most = losses["identity"] - losses["kernel density"]
    return (losses["identity"] - losses["r"]) / most
