"""Figure 11.4: how long the best steps along eigenvectors are."""

from bin.figures import chapter_11

TITLE = "The best step size along every eigenvector"
CAPTION = (
    "1 / |alpha*| of the best step -alpha* (g'v) v against |lambda|, at the moment of figure 11.1."
    " On the line the best step is the quadratic model's (Eq 11.2); below it, it is longer."
)
AFTER = ("11.1",)
CONFIGS = chapter_11.configs(chapter_11.EARLY, quick=2, full=2)


def run(config):
    """Returns the best step along every eigenvector."""
    return chapter_11.steps_of(config)


def draw(result, path):
    """Draws step sizes against eigenvalues."""
    chapter_11.draw_steps(result, path, "size")


def claims(result):
    """That it is 1 / lambda along positive curvature, and far longer along negative."""
    return chapter_11.judge_sizes(result)
