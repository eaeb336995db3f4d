"""Figure 11.2: the loss along the eigenvector of the largest eigenvalue."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict

TITLE = "The loss along the direction of largest curvature"
CAPTION = (
    "The loss after a step -alpha (g'v) v along the eigenvector v of the largest eigenvalue, at the"
    " moment of figure 11.1, and its quadratic model, whose minimum is at alpha = 1 / lambda."
)
AFTER = ("11.1",)
CONFIGS = common.configs(common.EARLY, quick=2, full=2)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the loss along the eigenvector and at 1 / lambda, and the best step along it."""
    found = hessian_spectra.best_steps(config.study)
    return {
        "search": found["searches"]["largest"],
        "best": found["steps"][-1],
        "residual": found["residuals"][-1],
        "at_optimum": found["at_optimum"],
        "notes": [*found["notes"], f"After {found['step']:,} steps of training."],
        "warnings": found["warnings"],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the loss and its quadratic model."""
    common.draw_search(result["search"], path, "largest")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the loss is quadratic up to the model's minimum, and the best step ends there."""
    search, best = result["search"], result["best"]
    initial, curvature = search["initial_loss"], search["curvature"]
    expected = search["slope"] ** 2 / (2 * curvature)
    fell = initial - result["at_optimum"]
    told = curvature > result["residual"] and max(expected, fell) > common.ROUNDING * initial
    return [
        Claim(
            "At its optimum, alpha = 1 / lambda, the quadratic model holds.",
            NO_NUMBER,
            f"there it predicts a decrease of the loss by {expected:.3g}, {expected / initial:.2%}"
            f" of {initial:.3g}; the loss decreases by {fell:.3g}, {fell / expected:.0%} of that",
            verdict(abs(fell / expected - 1) < common.TENTH, told=told),
        ),
        Claim(
            "The best step is close to 1 / lambda.",
            NO_NUMBER,
            f"alpha* is {best['alpha'] * curvature:.2f} / lambda (lambda = {curvature:.3g}); the"
            f" step 1 / lambda has {fell / best['decrease']:.0%} of the decrease of alpha*",
            verdict(fell > (1 - common.TENTH) * best["decrease"], told=told),
        ),
    ]
