"""Figure 11.1: the loss along the eigenvector of the most negative eigenvalue."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict

TITLE = "The loss along the direction of most negative curvature"
CAPTION = (
    "The loss after a step -alpha (g'v) v along the eigenvector v of the smallest eigenvalue, early"
    " in training, beside its quadratic model. That has a maximum, at alpha = 1 / lambda, and no"
    " minimum. The picture ends at twice the best step; alpha < 0 goes up the gradient."
)
CONFIGS = common.configs(common.EARLY, quick=40, full=150)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the loss along the eigenvector, and the best step there."""
    found = hessian_spectra.best_steps(config.study)
    return {
        "search": found["searches"]["smallest"],
        "best": found["steps"][0],
        "residual": found["residuals"][0],
        "notes": [*found["notes"], f"After {found['step']:,} steps of training."],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the loss and its quadratic model."""
    common.draw_search(result["search"], path, "smallest")


def claims(result: dict[str, Any]) -> list[Claim]:
    """That a step there lowers the loss, and that the loss is not quadratic."""
    search, best = result["search"], result["best"]
    initial, curvature = search["initial_loss"], search["curvature"]
    negative = curvature < -result["residual"]
    expected = best["slope"] ** 2 * (best["alpha"] - best["alpha"] ** 2 * curvature / 2)
    # The search ends at twice the best step.
    way = 2 * search["alphas"] / search["alphas"][-1]
    off = abs(search["loss"] - search["quadratic"]) > common.TENTH * abs(expected)
    parted = way[(way > 0) & off]
    if len(parted):
        apart = f"they are a tenth of that apart from {min(parted):.0%} of the way on"
    else:
        apart = "they stay together as far as the picture goes"
    return [
        Claim(
            "A step along the direction of most negative curvature lowers the loss.",
            NO_NUMBER,
            f"from {initial:.4g} to {best['loss']:.4g}, by {best['decrease'] / initial:.0%}; lambda"
            f" is {curvature:.3g} ± {result['residual']:.1g}",
            verdict(best["decrease"] > common.ROUNDING * initial, told=negative),
        ),
        Claim(
            "The quadratic model has no minimum there, and the loss leaves it.",
            NO_NUMBER,
            f"at the best step the model says that the loss falls by {expected:.3g}, and it falls"
            f" by {best['decrease']:.3g}; {apart}",
            verdict(len(parted) > 0, told=negative),
        ),
    ]
