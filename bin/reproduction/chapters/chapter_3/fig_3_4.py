"""Figure 3.4: the score that the optimal auto-encoders of a density in one dimension imply."""

import dataclasses
import itertools
import pathlib
from typing import Any

from bin.reproduction.engine.contract import NO_NUMBER, Claim, Settings, verdict

TITLE = "The score that the optimal auto-encoders of a density in one dimension imply"
CAPTION = (
    "(r(x) - x) / sigma^2 of the optimal RCAE and DAE for the density of figure 3.3, and the true"
    " score, for the four sigmas of the thesis. Errors in the claims are root mean squares under"
    " the density, relative to the root mean square of the score."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The grid and the sigmas.

    Attributes:
        points: the number of grid points on [-1.5, 1.5].
        drawn: the sigmas of the thesis' figure.
        small: smaller sigmas, which approximate the limit.
    """

    points: int = 1000
    drawn: tuple[float, ...] = (1.0, 0.31, 0.16, 0.06)
    small: tuple[float, ...] = (0.04, 0.02, 0.01)


CONFIGS = {
    "quick": Config(expected_seconds=1),
    "full": Config(points=4000, expected_seconds=1),
}


def run(config: Config) -> dict[str, Any]:
    """Solves for both auto-encoders at every sigma; returns scores on the grid and their errors."""
    from thesis_tf.autoencoders import theory

    wells = theory.ThreeWells()
    sigmas = [*config.drawn, *config.small]
    found = theory.exact_scores_1d(wells, wells.grid(config.points), sigmas)
    errors = zip(*found.errors().values(), strict=True)
    count = len(config.drawn)
    return {
        "grid": found.grid,
        "energy": found.energy,
        "score": found.truth,
        "drawn": config.drawn,
        "sigmas": sigmas,
        "rcae": found.rcae[:count],
        "dae": found.dae[:count],
        "errors": [{"RCAE": rcae, "DAE": dae} for rcae, dae in errors],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the energy, and the scores for every sigma."""
    import numpy as np

    from thesis_tf.autoencoders import theory

    scores = theory.ExactScores(
        grid=result["grid"],
        energy=result["energy"],
        truth=result["score"],
        sigmas=np.array(result["drawn"]),
        rcae=result["rcae"],
        dae=result["dae"],
    )
    theory.draw_exact_1d(scores, path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: Theorems 1 and 2, Proposition 1, and the error at the sigmas that are drawn."""
    sigmas, errors = result["sigmas"], result["errors"]
    order = sorted(range(len(sigmas)), key=sigmas.__getitem__, reverse=True)
    falls = all(
        errors[b][name] < errors[a][name]
        for a, b in itertools.pairwise(order)
        for name in ("RCAE", "DAE")
    )
    drawn = min(result["drawn"])
    at_drawn, smallest = errors[sigmas.index(drawn)], errors[order[-1]]
    return [
        Claim(
            "As sigma goes to 0 (r(x) - x) / sigma^2 becomes the score (Theorems 1 and 2).",
            NO_NUMBER,
            f"error {smallest['RCAE']:.2%} (RCAE) and {smallest['DAE']:.2%} (DAE) at sigma"
            f" {min(sigmas):g}; the error decreases with sigma",
            verdict(falls and max(smallest.values()) < 0.02),
        ),
        Claim(
            "At the smallest sigma of the figure the score is recovered.",
            NO_NUMBER,
            f"error {at_drawn['RCAE']:.0%} (RCAE) and {at_drawn['DAE']:.0%} (DAE) at sigma"
            f" {drawn:g}: its shape is correct, its magnitude is not",
            verdict(max(at_drawn.values()) < 0.05),
        ),
        Claim(
            "The RCAE and the DAE agree for small sigma (Proposition 1).",
            NO_NUMBER,
            f"their errors differ by {abs(smallest['RCAE'] - smallest['DAE']):.2%} at sigma"
            f" {min(sigmas):g}",
            verdict(abs(smallest["RCAE"] - smallest["DAE"]) < 0.005),
        ),
    ]
