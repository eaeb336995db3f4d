"""Figures of exact solutions in one dimension (thesis, figures 3.3 and 3.4)."""

from thesis_tf._core.types import Path
from thesis_tf.autoencoders.theory.exact_1d import ExactScores
from thesis_tf.plotting.style import (
    CATEGORICAL,
    INK,
    add_legend,
    checked_path,
    new_figure,
    save,
    style_axes,
)


def draw_exact_1d(scores: ExactScores, path: Path, *, title: str | None = None) -> None:
    """Draws an energy, and the scores implied by r with the true score (figures 3.3 and 3.4).

    Args:
        scores: the result of `exact_scores_1d`, with one panel per sigma.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    grid, energy, truth = scores.grid, scores.energy, scores.truth
    count = len(scores.sigmas) + 1
    columns = min(3, count)
    rows = -(-count // columns)
    figure = new_figure(3.7 * columns, 2.9 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    style_axes(panels[0], "x", "E(x)", title=title)
    panels[0].plot(grid, energy - energy.min(), color=INK, linewidth=1.4)
    # The limits of the panels exclude regions where p is nearly 0.
    seen = energy - energy.min() < 8
    reach = 1.2 * abs(truth[seen]).max()
    of_sigmas = zip(scores.sigmas, scores.rcae, scores.dae, strict=True)
    for axes, (sigma, rcae, dae) in zip(panels[1:], of_sigmas, strict=False):
        style_axes(axes, "x", "score", title=f"sigma = {sigma:g}")
        axes.plot(grid, truth, color=INK, linewidth=1.0, label="d log p / dx")
        for color, (name, score) in zip(CATEGORICAL, (("RCAE", rcae), ("DAE", dae)), strict=False):
            axes.plot(grid, score, color=color, linewidth=1.4, linestyle="--", label=name)
        axes.set_ylim(-reach, reach)
    if count > 1:
        add_legend(panels[1])
    for axes in panels[count:]:
        axes.set_axis_off()
    save(figure, path)
