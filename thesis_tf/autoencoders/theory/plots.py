"""Figures of exact solutions in one dimension (thesis, figures 3.3 and 3.4)."""

from collections.abc import Mapping

from thesis_tf._core.types import Array, Path
from thesis_tf.plotting.style import (
    CATEGORICAL,
    INK,
    add_legend,
    checked_path,
    new_figure,
    save,
    style_axes,
)


def draw_exact_1d(
    grid: Array,
    energy: Array,
    truth: Array,
    estimates: Mapping[float, Mapping[str, Array]],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Draws an energy, and the scores implied by r with the true score (figures 3.3 and 3.4).

    Args:
        grid: (M,) points.
        energy: (M,) E(x) = - log p(x), up to a constant.
        truth: (M,) d log p / dx.
        estimates: {sigma: {name: (M,) score}}, with one panel per sigma; if it is empty, only the
            energy is drawn.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    columns = min(3, len(estimates) + 1)
    rows = -(-(len(estimates) + 1) // columns)
    figure = new_figure(3.7 * columns, 2.9 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    style_axes(panels[0], "x", "E(x)", title=title)
    panels[0].plot(grid, energy - energy.min(), color=INK, linewidth=1.4)
    # The limits of the panels exclude regions where p is nearly 0.
    seen = energy - energy.min() < 8
    reach = 1.2 * abs(truth[seen]).max()
    for axes, (sigma, scores) in zip(panels[1:], estimates.items(), strict=False):
        style_axes(axes, "x", "score", title=f"sigma = {sigma:g}")
        axes.plot(grid, truth, color=INK, linewidth=1.0, label="d log p / dx")
        for color, (name, score) in zip(CATEGORICAL, scores.items(), strict=False):
            axes.plot(grid, score, color=color, linewidth=1.4, linestyle="--", label=name)
        axes.set_ylim(-reach, reach)
    if estimates:
        add_legend(panels[1])
    for axes in panels[len(estimates) + 1 :]:
        axes.set_axis_off()
    save(figure, path)
