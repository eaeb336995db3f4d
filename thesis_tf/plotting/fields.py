"""Vector fields in the plane: arrows of equal length, colored by the length of the vectors."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.quiver import Quiver

from thesis_tf._core.types import Array
from thesis_tf.plotting import style


def draw_arrows(
    axes: Axes,
    points: Array,
    moves: Array,
    spacing: float,
    *,
    width: float = 0.0022,
    norm: Normalize | None = None,
) -> Quiver:
    """Draws each vector as an arrow whose color shows the length of the vector.

    Args:
        axes: the axes.
        points: (n, 2), the points where vectors begin.
        moves: (n, 2), the vectors.
        spacing: the distance of the points; arrows have three quarters of this length.
        width: the width of the arrows, as a fraction of the width of the axes.
        norm: maps lengths to colors; None is linear, between the smallest and the largest.

    Returns:
        The arrows, for a color bar.
    """
    length = np.linalg.norm(moves, axis=1)
    unit = moves / np.maximum(length, 1e-300)[:, np.newaxis] * spacing * 0.75
    return axes.quiver(
        *points.T, *unit.T, length, cmap=style.SEQUENTIAL, angles="xy", scale_units="xy", scale=1,
        width=width, norm=norm,
    )  # fmt: skip


def mark(axes: Axes, points: Array, *, color: str, marker: str, size: float, label: str) -> None:
    """Marks points (n, 2) so that they are visible above a field; does nothing without points.

    Args:
        axes: the axes.
        points: (n, 2).
        color: the color of the marks.
        marker: matplotlib's name of their shape.
        size: the size of a mark, in square points.
        label: the label in the legend.
    """
    if len(points):
        x, y = points.T
        axes.scatter(
            x, y, s=size, color=color, marker=marker, edgecolors="white", linewidths=0.8,
            zorder=4, label=label,
        )  # fmt: skip
