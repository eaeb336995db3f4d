"""Figure 11.8: how long the best steps along eigenvectors are, later in training."""

from bin.figures import chapter_11

TITLE = "The best step size along every eigenvector, later in training"
CAPTION = "As figure 11.4, at the moment of figure 11.7."
AFTER = ("11.7",)
CONFIGS = chapter_11.configs(chapter_11.LATE, quick=2, full=2)


def run(config):
    """Returns the best step along every eigenvector."""
    return chapter_11.steps_of(config)


def draw(result, path):
    """Draws step sizes against eigenvalues."""
    chapter_11.draw_steps(result, path, "size")


def claims(result):
    """That it is 1 / lambda along positive curvature, and far longer along negative."""
    return chapter_11.judge_sizes(result)
