"""Figure 11.3: how much steps along eigenvectors lower the loss."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Claim

TITLE = "The best decrease of the loss along every eigenvector"
CAPTION = (
    "How much the best step along an eigenvector lowers the loss, against its eigenvalue, of those"
    " at both ends of the spectrum and at the moment of figure 11.1. The best step is searched for"
    " over six orders of magnitude, in both directions."
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
    """That directions of negative curvature bring more."""
    return common.judge_decreases(result)
