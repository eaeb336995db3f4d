"""Figure 11.1: the loss along the eigenvector of the most negative eigenvalue."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.chapters.chapter_11.studies import hessian_spectra
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict

TITLE = "The loss along the direction of most negative curvature"
CAPTION = (
    "The loss after a step -alpha (g'v) v along the eigenvector v of the smallest eigenvalue, early"
    " in training, and its quadratic model. The model has a maximum at alpha = 1 / lambda and no"
    " minimum. The curves end at twice the best step; alpha < 0 ascends the gradient."
)
CONFIGS = common.configs(common.EARLY, quick=40, full=150)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the loss along the eigenvector, and the best step along it."""
    found = hessian_spectra.best_steps(config.study)
    return {
        "search": found["searches"]["smallest"],
        "best": found["steps"][0],
        "residual": found["residuals"][0],
        "notes": [*found["notes"], f"After {found['step']:,} steps of training."],
        "warnings": found["warnings"],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the loss and its quadratic model."""
    common.draw_search(result["search"], path, "smallest")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: a step along the eigenvector lowers the loss, and the loss is not quadratic."""
    search, best = result["search"], result["best"]
    initial, curvature = search["initial_loss"], search["curvature"]
    negative = curvature < -result["residual"]
    expected = best["slope"] ** 2 * (best["alpha"] - best["alpha"] ** 2 * curvature / 2)
    # The search ends at twice the best step.
    way = 2 * search["alphas"] / search["alphas"][-1]
    off = abs(search["loss"] - search["quadratic"]) > common.TENTH * abs(expected)
    parted = way[(way > 0) & off]
    if len(parted):
        apart = f"they differ by a tenth of that from {min(parted):.0%} of the way on"
    else:
        apart = "they differ by less than a tenth of that up to the end of the curves"
    return [
        Claim(
            "A step along the direction of most negative curvature lowers the loss.",
            NO_NUMBER,
            f"from {initial:.4g} to {best['loss']:.4g}, by {best['decrease'] / initial:.0%}; lambda"
            f" is {curvature:.3g} ± {result['residual']:.1g}",
            verdict(best["decrease"] > common.ROUNDING * initial, told=negative),
        ),
        Claim(
            "The quadratic model has no minimum there, and the loss departs from it.",
            NO_NUMBER,
            f"at the best step the model predicts a decrease by {expected:.3g}, and the loss"
            f" decreases by {best['decrease']:.3g}; {apart}",
            verdict(len(parted) > 0, told=negative),
        ),
    ]
