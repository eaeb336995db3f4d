"""What figures 3.5 and 3.7 share: the field r(x) - x over a part of the plane."""

import numpy as np


def field(estimator, center, reach, points_a_side=21):
    """Returns r(x) - x on a grid over a square.

    Args:
        estimator: a `ScoreEstimator` of the plane.
        center: of the square, (2,).
        reach: from there to its sides.
        points_a_side: of the grid.

    Returns:
        {"points": (n, 2), "moves": (n, 2), "center", "reach"}.
    """
    side = np.linspace(-reach, reach, points_a_side)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2) + center
    moves = estimator.reconstruct(points).numpy() - points
    return {"points": points, "moves": moves, "center": np.array(center), "reach": float(reach)}


def middle_and_reach(x, margin=0.5):
    """Returns the center and the reach of a square around the data, by default twice as wide."""
    low, high = x.min(axis=0), x.max(axis=0)
    return (low + high) / 2, (0.5 + margin) * float((high - low).max())


def directions(estimator, x, points_a_side=61):
    """Which part of r(x) - x over a square is less than a right angle off the nearest example.

    Args:
        estimator: a `ScoreEstimator`.
        x: (n, 2) examples; the square is twice as wide.
        points_a_side: of the grid.

    Returns:
        {"near": of the points where noise leads, "near_points": their number, "everywhere",
        "points"}.
    """
    import scipy.spatial

    from thesis_tf import autoencoders

    whole = field(estimator, *middle_and_reach(x), points_a_side)
    points, moves = whole["points"], whole["moves"]
    nearest = x[scipy.spatial.cKDTree(x).query(points)[1]]
    right = np.sum(moves * (nearest - points), axis=1) > 0
    near = autoencoders.DataRegion(x, estimator.sigma).contains(points)
    return {
        "near": float(right[near].mean()) if near.any() else 1.0,
        "near_points": int(near.sum()),
        "everywhere": float(right.mean()),
        "points": len(points),
    }


def draw_fields(data, rows, path):
    """Draws fields beside one another: arrows all as long as there is room, coloured by length.

    Args:
        data: (n, 2) examples.
        rows: of panels, [[{"title", and what `field` returns; "attractors" (k, 2), "spurious"
            (k,)}]].
        path: of the picture.
    """
    from matplotlib import colors

    from thesis_tf.plotting import style

    columns = len(rows[0])
    page = style.new_sheet(3.1 * columns, 2.7 * len(rows) + 0.4)
    moves = np.concatenate([panel["moves"] for row in rows for panel in row])
    lengths = np.linalg.norm(moves, axis=1)
    # From a hundredth of them up, so that what is next to 0 doesn't take most of the colours.
    norm = colors.LogNorm(max(np.percentile(lengths, 1), 1e-30), max(lengths.max(), 1e-29))
    grid = page.subplots(len(rows), columns, squeeze=False)
    for axes, panel in zip(grid.ravel(), [panel for row in rows for panel in row], strict=True):
        style.style_axes(axes, "x1", "x2", panel["title"])
        shown = _inside(data, panel)
        axes.scatter(*data[shown].T, s=3, color=style.BLUE, linewidths=0, label="data")
        arrows = _draw_arrows(axes, panel, norm)
        _mark(axes, panel)
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
    bar = page.colorbar(arrows, ax=grid, shrink=0.8, pad=0.01)
    bar.set_label("|r(x) − x|", family=style.FONT, fontsize=9, color=style.INK)
    bar.ax.tick_params(labelsize=8)
    # One legend of all that is drawn in any of them.
    labels = {}
    for axes in grid.ravel():
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    page.legend(
        labels.values(), labels, loc="outside lower center", ncols=3, frameon=False,
        labelcolor=style.SOFT, prop={"family": style.FONT, "size": 8},
    )  # fmt: skip
    style.save(page, path)


def _inside(points, panel):
    return np.abs(points - panel["center"]).max(axis=1) < panel["reach"]


def _draw_arrows(axes, panel, norm):
    from thesis_tf.plotting import style

    points, moves = panel["points"], panel["moves"]
    length = np.linalg.norm(moves, axis=1)
    spacing = 2 * panel["reach"] / (len(points) ** 0.5 - 1)
    unit = moves / np.maximum(length, 1e-300)[:, np.newaxis] * spacing * 0.75
    return axes.quiver(
        *points.T, *unit.T, length, cmap=style.SEQUENTIAL, angles="xy", scale_units="xy", scale=1,
        width=0.003, norm=norm,
    )  # fmt: skip


def _mark(axes, panel):
    from thesis_tf.plotting import style

    for spurious, color, marker, label in (
        (False, style.GREEN, "o", "attractors at the data"),
        (True, style.VERMILION, "X", "spurious attractors"),
    ):
        points = panel.get("attractors", np.zeros((0, 2)))
        chosen = _inside(points, panel) & (panel.get("spurious", np.zeros(0)) == spurious)
        if chosen.any():
            axes.scatter(
                *points[chosen].T, s=32, color=color, marker=marker,
                edgecolors="white", linewidths=0.8, zorder=4, label=label,
            )  # fmt: skip
