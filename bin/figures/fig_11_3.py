"""Figure 11.3: how much steps along eigenvectors lower the loss."""

from bin.figures import chapter_11

TITLE = "The best decrease of the loss along every eigenvector"
CAPTION = (
    "How much the best step along an eigenvector lowers the loss, against its eigenvalue, of those"
    " at both ends of the spectrum and at the moment of figure 11.1. The best step is searched for"
    " over six orders of magnitude, in both directions."
)
AFTER = ("11.1",)
CONFIGS = chapter_11.configs(chapter_11.EARLY, quick=2, full=2)


def run(config):
    """Returns the best step along every eigenvector."""
    return chapter_11.steps_of(config)


def draw(result, path):
    """Draws decreases against eigenvalues."""
    chapter_11.draw_steps(result, path, "decrease")


def claims(result):
    """That directions of negative curvature bring more."""
    return chapter_11.judge_decreases(result)
