"""The field r(x) - x over a square in the plane, for figures 3.5 and 3.7."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.quiver import Quiver

    from thesis_tf.autoencoders import ScoreEstimator

Points = npt.NDArray[Any]


def field(
    estimator: "ScoreEstimator", center: Points, reach: float, points_per_side: int = 21
) -> dict[str, Any]:
    """Returns r(x) - x on a grid over a square.

    Args:
        estimator: a `ScoreEstimator` in two dimensions.
        center: the center of the square, (2,).
        reach: half the length of its sides.
        points_per_side: the number of grid points per side.

    Returns:
        {"points": (n, 2), "moves": (n, 2), "center", "reach"}.
    """
    side = np.linspace(-reach, reach, points_per_side)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2) + center
    moves = estimator.reconstruct(points) - points
    return {"points": points, "moves": moves, "center": np.array(center), "reach": float(reach)}


def middle_and_reach(x: Points, margin: float = 0.5) -> tuple[Points, float]:
    """Returns the center and the reach of a square around the data, by default twice as wide."""
    low, high = x.min(axis=0), x.max(axis=0)
    return (low + high) / 2, (0.5 + margin) * float((high - low).max())


def directions(
    estimator: "ScoreEstimator", x: Points, points_per_side: int = 61
) -> dict[str, float | int]:
    """Returns how often r(x) - x points to the nearest example, within 90 degrees.

    Args:
        estimator: a `ScoreEstimator`.
        x: (n, 2) examples; the square is twice as wide.
        points_per_side: the number of grid points per side.

    Returns:
        {"near": the fraction among points that noise can reach, "near_points": their number,
        "everywhere": the fraction among all points, "points": their number}.
    """
    import scipy.spatial

    from thesis_tf import autoencoders

    whole = field(estimator, *middle_and_reach(x), points_per_side)
    points, moves = whole["points"], whole["moves"]
    nearest = x[scipy.spatial.cKDTree(x).query(points)[1]]
    right = np.sum(moves * (nearest - points), axis=1) > 0
    near = autoencoders.DataRegion(x, estimator.known_sigma()).contains(points)
    return {
        "near": float(right[near].mean()) if near.any() else 1.0,
        "near_points": int(near.sum()),
        "everywhere": float(right.mean()),
        "points": len(points),
    }


def draw_fields(
    data: Points, rows: Sequence[Sequence[Mapping[str, Any]]], path: pathlib.Path
) -> None:
    """Draws fields side by side: arrows of equal length, colored by the length of r(x) - x.

    Args:
        data: (n, 2) examples.
        rows: rows of panels. Each panel is a dict with a "title", the items that `field` returns,
            and optionally "attractors" (k, 2) and "spurious" (k,).
        path: the file to write.
    """
    from matplotlib import colors

    from thesis_tf.plotting import style

    columns = len(rows[0])
    figure = style.new_figure(3.1 * columns, 2.7 * len(rows) + 0.4)
    moves = np.concatenate([panel["moves"] for row in rows for panel in row])
    lengths = np.linalg.norm(moves, axis=1)
    # Colors begin at the first percentile; lengths near 0 would otherwise use most of the range.
    norm = colors.LogNorm(max(np.percentile(lengths, 1), 1e-30), max(lengths.max(), 1e-29))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, panel in zip(grid.ravel(), [panel for row in rows for panel in row], strict=True):
        style.style_axes(axes, "x1", "x2", title=panel["title"])
        shown = _inside(data, panel)
        axes.scatter(*data[shown].T, s=3, color=style.BLUE, linewidths=0, label="data")
        arrows = _draw_arrows(axes, panel, norm)
        _mark(axes, panel)
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
    bar = figure.colorbar(arrows, ax=grid, shrink=0.8, pad=0.01)
    bar.set_label("|r(x) − x|", family=style.FONT, fontsize=9, color=style.INK)
    bar.ax.tick_params(labelsize=8)
    # One legend for all panels.
    labels: dict[str, Any] = {}
    for axes in grid.ravel():
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    style.add_legend(
        figure, handles=labels.values(), labels=labels, loc="outside lower center", ncols=3
    )
    style.save(figure, path)


def _inside(points: Points, panel: Mapping[str, Any]) -> Points:
    return np.abs(points - panel["center"]).max(axis=1) < panel["reach"]


def _draw_arrows(axes: "Axes", panel: Mapping[str, Any], norm: "Normalize") -> "Quiver":
    from thesis_tf.plotting import fields

    spacing = 2 * panel["reach"] / (len(panel["points"]) ** 0.5 - 1)
    return fields.draw_arrows(
        axes, panel["points"], panel["moves"], spacing, width=0.003, norm=norm
    )


def _mark(axes: "Axes", panel: Mapping[str, Any]) -> None:
    from thesis_tf.plotting import fields, style

    for spurious, color, marker, label in (
        (False, style.GREEN, "o", "attractors at the data"),
        (True, style.VERMILION, "X", "spurious attractors"),
    ):
        points = panel.get("attractors", np.zeros((0, 2)))
        chosen = _inside(points, panel) & (panel.get("spurious", np.zeros(0)) == spurious)
        fields.mark(axes, points[chosen], color=color, marker=marker, size=32, label=label)
