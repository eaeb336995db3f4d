"""Figure 11.4: the lengths of the best steps along eigenvectors."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_11 import common
from bin.reproduction.engine.contract import Claim

TITLE = "The best step size along every eigenvector"
CAPTION = (
    "1 / |alpha*| of the best step -alpha* (g'v) v against |lambda|, at the moment of figure 11.1."
    " On the line, the best step equals that of the quadratic model (Eq 11.2); below the line, it"
    " is longer."
)
AFTER = ("11.1",)
CONFIGS = common.configs(common.EARLY, quick=2, full=2)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws step sizes against eigenvalues."""
    common.draw_steps(result, path, "size")


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: the best step is 1 / lambda along positive curvature, far longer along negative."""
    return common.judge_sizes(result)
