"""Figure 11.8: how long the best steps along eigenvectors are, later in training."""

from bin.reproduction.chapters.chapter_11 import common

TITLE = "The best step size along every eigenvector, later in training"
CAPTION = "As figure 11.4, at the moment of figure 11.7."
AFTER = ("11.7",)
CONFIGS = common.configs(common.LATE, quick=2, full=2)


def run(config):
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result, path):
    """Draws step sizes against eigenvalues."""
    common.draw_steps(result, path, "size")


def claims(result):
    """That it is 1 / lambda along positive curvature, and far longer along negative."""
    return common.judge_sizes(result)
