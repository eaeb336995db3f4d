"""Plots of chapter 3: functions that draw results of this area (figures 3.5 to 3.7)."""

import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import ticker
from matplotlib.colors import Normalize

from thesis_tf._core.types import Array, ArrayLike, Path
from thesis_tf.plotting import fields
from thesis_tf.plotting.style import (
    BLUE,
    FONT,
    GREEN,
    GRID,
    INK,
    LINE,
    PURPLE,
    VERMILION,
    add_legend,
    add_title,
    checked_path,
    draw_text,
    heading,
    new_figure,
    save,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thesis_tf.autoencoders.density.attractors import Attractors
    from thesis_tf.autoencoders.density.derivatives.tangents import Tangents
    from thesis_tf.autoencoders.density.score_field import ScoreField

_MOST_POINTS = 3000


def draw_score_field(
    field: "ScoreField",
    path: Path,
    *,
    attractors: "Attractors | None" = None,
    title: str | None = None,
) -> None:
    """Draws r(x) - x as arrows over a plane, or as a curve (figures 3.5 and 3.7).

    Args:
        field: the result of `score_field`; for points with one value, a curve is drawn.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        attractors: `Attractors` to mark; spurious attractors have another marker.
        title: a heading.
    """
    path = checked_path(path)
    if field.axes.shape[1] == 1:
        _draw_score_curve(field, path, attractors, title)
        return
    shown, grid = field.project(field.data), field.project(field.points)
    width, depth = np.ptp(grid, axis=0)
    height = 4.8 * min(max(depth / width, 0.25), 1.5)  # of the axes, in inches
    whole = len(field.axes) == 2
    if not whole:
        title = "\n".join([title or "", textwrap.fill(_plane_note(field), 58)]).strip()
    lines = (title or "").count("\n")
    figure = new_figure(6.4, height + 1.6 + 0.25 * lines)
    axes = figure.subplots()
    names = ("x1", "x2") if whole else ("first principal component", "second")
    style_axes(axes, *names, title=title)
    axes.scatter(shown[:, 0], shown[:, 1], s=2, color=BLUE, linewidths=0, label="data")
    moves = field.project(field.reconstruction) - grid
    top = float(np.linalg.norm(moves, axis=1).max()) or 1.0
    # The palest colors are left out: the arrows near the data are the shortest.
    norm = Normalize(-0.4 * top, top)
    arrows = fields.draw_arrows(axes, grid, moves, field.spacing, norm=norm)
    bar = figure.colorbar(arrows, ax=axes, shrink=0.7)
    bar.ax.set_ylim(0, top)
    bar.set_label("|r(x) − x|", family=FONT, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    axes.set_aspect("equal", adjustable="box")
    reach = 0.6 * field.spacing
    axes.set_xlim(grid[:, 0].min() - reach, grid[:, 0].max() + reach)
    axes.set_ylim(grid[:, 1].min() - reach, grid[:, 1].max() + reach)
    if attractors is not None and len(attractors.points):
        _mark_attractors(axes, attractors, field.project(attractors.points))
    below = (0.5, -0.45 / height)
    add_legend(axes, loc="upper center", bbox_to_anchor=below, ncols=2, markerscale=1.5)
    save(figure, path)


def _plane_note(field: "ScoreField") -> str:
    """Returns a sentence on the plane of a field: arrows there are not those at the data."""
    flat = _flat(field.data) - field.center
    off = np.linalg.norm(flat - flat @ field.axes @ field.axes.T, axis=1)
    return (
        "On the plane of two principal components through the mean; data are off it by"
        f" {np.median(off):.2g} (median)"
    )


def _kinds(attractors: "Attractors") -> list[tuple[Array, str, str, str]]:
    """Returns (which, color, marker, label) of the kinds of attractors."""
    near = attractors.distance <= 1
    return [
        (near & ~attractors.spurious, GREEN, "o", "within sigma\nof an example"),
        (~near & ~attractors.spurious, PURPLE, "s", "farther away"),
        (attractors.spurious, VERMILION, "X", "that are spurious"),
    ]


def _mark_attractors(axes: "Axes", attractors: "Attractors", where: Array) -> None:
    """Marks attractors at (n, 2); the legend says how many are outside of the axes' limits."""
    low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
    outside = ((where < low) | (where > high)).any(axis=1)
    for mask, color, marker, label in _kinds(attractors):
        label = f"attractors {label}".replace("\n", " ")
        if outside[mask].any():
            label += f" ({outside[mask].sum()} of {mask.sum()} outside)"
        fields.mark(axes, where[mask], color=color, marker=marker, size=46, label=label)


def _draw_score_curve(
    field: "ScoreField", path: FilePath, attractors: "Attractors | None", title: str | None
) -> None:
    points, ends = field.points.ravel(), field.reconstruction.ravel()
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    style_axes(axes, "x", "r(x) − x", title=title)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.plot(points, ends - points, color=VERMILION, linewidth=1.5)
    shown = field.data.ravel()
    floor = np.full(len(shown), axes.get_ylim()[0])
    axes.scatter(
        shown, floor, s=60, marker="|", color=BLUE, alpha=0.3, linewidths=0.6, label="data"
    )
    axes.set_xlim(axes.get_xlim())
    if attractors is not None and len(attractors.points):
        where = attractors.points.ravel()
        _mark_attractors(axes, attractors, np.column_stack([where, 0 * where]))
    add_legend(axes)
    save(figure, path)


def draw_points(
    samples: Mapping[str, ArrayLike],
    path: Path,
    *,
    max_pairs: int = 4,
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Draws samples side by side, projected to pairs of values (figure 3.6).

    Each sample has a row, or a column if there is only one plane.

    Args:
        samples: {name: (n, ...) array}; all have the same axes, which exclude the most extreme
            thousandth at each end.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        max_pairs: the maximum number of planes: values 0 and 1, 2 and 3, and so on. A note says
            which values are in none of them.
        title: a heading.
        caption: a sentence below the heading.

    Each panel has the same number of points, that of the smallest sample and at most 3,000, so that
    their densities can be compared.
    """
    path = checked_path(path)
    flat = {name: _flat(x) for name, x in samples.items()}
    size = min(x.shape[1] for x in flat.values())
    count = min(_MOST_POINTS, *map(len, flat.values()))
    flat = {name: x[:count] for name, x in flat.items()}
    if size < 2:
        caption = textwrap.fill(caption, 60) if caption else None
        _draw_histograms(flat, path, "\n".join(filter(None, [title, caption])))
        return
    pairs = [(i, i + 1) for i in range(0, size - 1, 2)][:max_pairs]
    shape = (len(flat), len(pairs)) if len(pairs) > 1 else (1, len(flat))
    figure = new_figure(2.7 * shape[1] + 0.4, 2.7 * shape[0] + 0.3)
    panels = figure.subplots(*shape, squeeze=False).reshape(len(flat), len(pairs))
    together = np.concatenate(list(flat.values()))
    ends = np.percentile(together, [0.1, 99.9], axis=0)
    colors = itertools.cycle((BLUE, GREEN, VERMILION, PURPLE))
    for row, color, (name, x) in zip(panels, colors, flat.items(), strict=False):
        for axes, (i, j) in zip(row, pairs, strict=True):
            style_axes(axes, f"x{i + 1}", f"x{j + 1}", title=name if axes is row[0] else None)
            axes.scatter(x[:, i], x[:, j], s=2, color=color, linewidths=0)
            for k, limits in ((i, axes.set_xlim), (j, axes.set_ylim)):
                low, high = ends[:, k]
                room = 0.08 * (high - low) or 1.0
                limits(low - room, high + room)
    left_out = range(2 * len(pairs) + 1, size + 1)
    note = None
    if left_out:
        names = f"x{left_out[0]}" if len(left_out) == 1 else f"x{left_out[0]} to x{left_out[-1]}"
        note = f"{names} {'is' if len(left_out) == 1 else 'are'} not shown"
    caption = textwrap.fill(caption, 24 * shape[1]) if caption else None
    add_title(figure, "\n".join(filter(None, [title, caption, note])), size=11)
    save(figure, path)


def _draw_histograms(samples: Mapping[str, Array], path: FilePath, title: str | None) -> None:
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    style_axes(axes, "x", "density", title=title)
    together = np.concatenate(list(samples.values()))
    low, high = np.percentile(together, [0.1, 99.9])
    bins = np.linspace(low, high, 61).tolist()
    colors = itertools.cycle((BLUE, GREEN, VERMILION))
    for color, (name, x) in zip(colors, samples.items(), strict=False):
        axes.hist(x.ravel(), bins, density=True, histtype="step", color=color, label=name)
    add_legend(axes)
    save(figure, path)


def draw_spectrum(tangents: "Tangents", path: Path, *, title: str | None = None) -> None:
    """Draws eigenvalues of the symmetric part of dr/dx by rank, and a histogram of its asymmetry.

    The sentences of `tangents.warnings()` are below the title.

    Args:
        tangents: `Tangents` of n points.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    figure = new_figure(8.6, 3.4)
    left, right = figure.subplots(1, 2)
    style_axes(left, "rank", "eigenvalue of (J + J')/2, J = dr/dx")
    rank = np.arange(1, tangents.eigenvalues.shape[1] + 1)
    low, median, high = np.percentile(tangents.eigenvalues, [25, 50, 75], axis=0)
    left.fill_between(rank, low, high, color=BLUE, alpha=0.25, linewidth=0)
    left.plot(rank, median, color=BLUE, marker="o" if len(rank) < 40 else None, markersize=4)
    left.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    for level in (0, 1):
        left.axhline(level, color=LINE, linewidth=0.8)
    style_axes(right, "asymmetry |J − J'| / 2|J|", "points")
    left.set_xlim(0.5, len(rank) + 0.5)
    bins = np.linspace(0, max(1e-3, tangents.asymmetry.max()), 41)
    right.hist(tangents.asymmetry, bins, color=BLUE, edgecolor=GRID, linewidth=0.3)
    add_title(figure, heading(title, tangents.warnings(), width=100))
    save(figure, path)


def draw_attractors(attractors: "Attractors", path: Path, *, title: str | None = None) -> None:
    """Draws attractors by distance from the data and spectral radius.

    The area of a marker shows the fraction of the initial points that ended there. Without
    attractors, the picture says so. The sentences of `attractors.warnings()` are below the title.

    Args:
        attractors: `Attractors`.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    figure = new_figure(5.2, 3.6)
    axes = figure.subplots()
    title = heading(title, attractors.warnings(), width=52)
    style_axes(axes, "distance from the data / sigma", "largest |eigenvalue| of dr/dx", title=title)
    fraction = attractors.counts / max(1, len(attractors.labels))
    for mask, color, _, label in _kinds(attractors):
        if mask.any():
            axes.scatter(
                attractors.distance[mask], attractors.spectral_radius[mask],
                s=12 + 300 * fraction[mask], color=color, alpha=0.6, linewidths=0,
                label=f"attractors {label}",
            )  # fmt: skip
    axes.axhline(1, color=LINE, linewidth=0.8)
    if len(attractors.points):
        # Outside the axes, so that its markers are not mistaken for attractors.
        about = "The area of a marker shows\nhow many starts ended there."
        moving = int((attractors.labels < 0).sum())
        if moving:
            about += f"\n{moving:,} of {len(attractors.labels):,} starts did not come\nto rest."
        add_legend(axes, heading=about, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        draw_text(axes, 0.5, 0.5, "No attractors", 9, transform=axes.transAxes)
    save(figure, path)


def _flat(x: ArrayLike) -> Array:
    x = np.asarray(x)
    return np.reshape(x, (len(x), -1))
