"""Figure 11.7: how much the best steps along eigenvectors lower the loss, later in training."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Claim

TITLE = "The best decrease of the loss along every eigenvector, later in training"
CAPTION = "Like figure 11.3, after one epoch. The thesis doesn't say at which step its figure is."
CONFIGS = common.configs(common.LATE, quick=40, full=180)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws decreases against eigenvalues."""
    common.draw_steps(result, path, "decrease")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: directions of negative curvature lower the loss more."""
    return common.judge_decreases(result)
