"""Figure 11.7: how much steps along eigenvectors lower the loss, later in training."""

from bin.reproduction.chapters.chapter_11 import common

TITLE = "The best decrease of the loss along every eigenvector, later in training"
CAPTION = "As figure 11.3, after an epoch of training. The thesis' own moment is not known here."
CONFIGS = common.configs(common.LATE, quick=40, full=180)


def run(config):
    """Returns the best step along every eigenvector."""
    return common.steps_of(config)


def draw(result, path):
    """Draws decreases against eigenvalues."""
    common.draw_steps(result, path, "decrease")


def claims(result):
    """That directions of negative curvature bring more."""
    return common.judge_decreases(result)
