"""Figure 11.8: the lengths of the best steps along eigenvectors, later in training."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Claim

TITLE = "The best step size along every eigenvector, later in training"
CAPTION = "Like figure 11.4, at the moment of figure 11.7."
AFTER = ("11.7",)
CONFIGS = common.configs(common.LATE, quick=2, full=2)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws step sizes against eigenvalues."""
    common.draw_steps(result, path, "size")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the best step is 1 / lambda along positive curvature, far longer along negative."""
    return common.judge_sizes(result)
