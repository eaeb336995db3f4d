"""Figure 11.7: how much steps along eigenvectors lower the loss, later in training."""

from bin.figures import chapter_11

TITLE = "The best decrease of the loss along every eigenvector, later in training"
CAPTION = "As figure 11.3, after an epoch of training. The thesis' own moment is not known here."
CONFIGS = chapter_11.configs(chapter_11.LATE, quick=40, full=180)


def run(config):
    """Returns the best step along every eigenvector."""
    return chapter_11.steps_of(config)


def draw(result, path):
    """Draws decreases against eigenvalues."""
    chapter_11.draw_steps(result, path, "decrease")


def claims(result):
    """That directions of negative curvature bring more."""
    return chapter_11.judge_decreases(result)
