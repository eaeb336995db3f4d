"""Figure 11.3: how much steps along eigenvectors lower the loss."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Claim

TITLE = "The best decrease of the loss along every eigenvector"
CAPTION = (
    "The decrease of the loss by the best step along an eigenvector, against its eigenvalue, for"
    " eigenvectors at both ends of the spectrum, at the moment of figure 11.1. The search for the"
    " best step covers six orders of magnitude in both directions."
)
AFTER = ("11.1",)
CONFIGS = common.configs(common.EARLY, quick=2, full=2)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws decreases against eigenvalues."""
    common.draw_steps(result, path, "decrease")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: directions of negative curvature lower the loss more."""
    return common.judge_decreases(result)
