"""The figures of chapter 3, from the results of this area to files."""

import itertools

import numpy as np
from matplotlib import ticker

from thesis_tf.plotting.style import (
    BLUE,
    CATEGORICAL,
    FONT,
    GREEN,
    GRID,
    INK,
    LINE,
    PURPLE,
    SEQUENTIAL,
    VERMILION,
    add_legend,
    checked_path,
    clean,
    new_sheet,
    save,
    style_axes,
)

_MOST_POINTS = 3000


def draw_exact_1d(grid, energy, truth, estimates, path, *, title=None):
    """Draws an energy, and scores that r implies beside the true one (figures 3.3 and 3.4).

    Args:
        grid: (M,) points.
        energy: (M,) E(x) = - log p(x), up to a constant.
        truth: (M,) d log p / dx.
        estimates: {sigma: {name: (M,) score}}, a panel for each sigma.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    columns = min(3, len(estimates) + 1)
    rows = -(-(len(estimates) + 1) // columns)
    page = new_sheet(3.7 * columns, 2.9 * rows)
    panels = page.subplots(rows, columns, squeeze=False).ravel()
    style_axes(panels[0], "x", "E(x)", title)
    panels[0].plot(grid, energy - energy.min(), color=INK, linewidth=1.4)
    # What p hardly reaches is left to the ends of the panels.
    seen = energy - energy.min() < 8
    reach = 1.2 * abs(truth[seen]).max()
    for axes, (sigma, scores) in zip(panels[1:], estimates.items(), strict=False):
        style_axes(axes, "x", "score", f"sigma = {sigma:g}")
        axes.plot(grid, truth, color=INK, linewidth=1.0, label="d log p / dx")
        for color, (name, score) in zip(CATEGORICAL, scores.items(), strict=False):
            axes.plot(grid, score, color=color, linewidth=1.4, linestyle="--", label=name)
        axes.set_ylim(-reach, reach)
    add_legend(panels[1])
    for axes in panels[len(estimates) + 1 :]:
        axes.set_axis_off()
    save(page, path)


def draw_score_field(
    estimator, data, path, *, points_a_side=41, margin=0.5, attractors=None, title=None
):
    """Draws r(x) - x as arrows over a plane (figures 3.5 and 3.7).

    Data of more than two values are shown in the plane of their two largest principal components:
    arrows start in it, and what leaves it is not seen. Data of one value give a curve.

    Args:
        estimator: a `ScoreEstimator`.
        data: (n, ...) array of examples.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        points_a_side: arrows along the longer side.
        margin: how far the picture reaches beyond the data, in units of their extent.
        attractors: `Attractors` to mark, the spurious apart.
        title: a heading.

    Returns:
        {"points": (m, d), "reconstruction": (m, d)}: where arrows start and end.
    """
    path = checked_path(path)
    if data[0].size == 1:
        return _draw_score_curve(estimator, data, path, margin, attractors, title)
    plane = _Plane(data)
    shown = plane.project(data[:: -(-len(data) // _MOST_POINTS)])
    low, high = shown.min(axis=0), shown.max(axis=0)
    extent = np.maximum(
        high - low, 0.1 * (high - low).max()
    )  # of a constant too there is a picture
    low, high = ((low + high) / 2 + sign * (0.5 + margin) * extent for sign in (-1, 1))
    counts = np.maximum(9, np.round(points_a_side * extent / extent.max())).astype(int)
    axis = [np.linspace(*ends) for ends in zip(low, high, counts, strict=True)]
    grid = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    points = plane.lift(grid).astype(data.dtype)
    ends = np.asarray(estimator.reconstruct(points))
    moves = plane.project(ends) - grid
    page = new_sheet(6.4, 6.2)
    axes = page.subplots()
    names = ("x1", "x2") if plane.whole else ("first principal component", "second")
    style_axes(axes, *names, title)
    axes.scatter(*shown.T, s=2, color=BLUE, linewidths=0, label="data")
    length = np.linalg.norm(moves, axis=1)
    # Arrows as long as there is room: the direction is what is looked at, the length is the color.
    spacing = min((high - low) / counts)
    unit = moves / np.maximum(length, 1e-300)[:, np.newaxis] * spacing * 0.75
    arrows = axes.quiver(
        *grid.T, *unit.T, length, cmap=SEQUENTIAL, angles="xy", scale_units="xy", scale=1,
        width=0.0022,
    )  # fmt: skip
    bar = page.colorbar(arrows, ax=axes, shrink=0.7)
    bar.set_label("|r(x) − x|", family=FONT, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    if attractors is not None and len(attractors.points):
        where = plane.project(attractors.points)
        for mask, color, marker, label in (
            (~attractors.spurious, GREEN, "o", "attractors at the data"),
            (attractors.spurious, VERMILION, "X", "spurious attractors"),
        ):
            if mask.any():
                axes.scatter(
                    *where[mask].T, s=46, color=color, marker=marker, edgecolors="white",
                    linewidths=0.8, zorder=4, label=label,
                )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, markerscale=1.5)
    save(page, path)
    return {"points": points, "reconstruction": ends}


def _draw_score_curve(estimator, data, path, margin, attractors, title):
    low, high = data.min(), data.max()
    reach = margin * (high - low)
    points = np.linspace(low - reach, high + reach, 400, dtype=data.dtype)
    points = points.reshape(-1, *data.shape[1:])
    ends = np.asarray(estimator.reconstruct(points))
    page = new_sheet(6.4, 4.2)
    axes = page.subplots()
    style_axes(axes, "x", "r(x) − x", title)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.plot(points.ravel(), (ends - points).ravel(), color=VERMILION, linewidth=1.5)
    shown = data[:: -(-len(data) // _MOST_POINTS)].ravel()
    floor = np.full(len(shown), axes.get_ylim()[0])
    axes.scatter(
        shown, floor, s=60, marker="|", color=BLUE, alpha=0.3, linewidths=0.6, label="data"
    )
    if attractors is not None and len(attractors.points):
        where = attractors.points.ravel()
        axes.scatter(where, 0 * where, s=40, color=GREEN, zorder=4, label="attractors")
    add_legend(axes)
    save(page, path)
    return {"points": points, "reconstruction": ends}


def draw_points(samples, path, *, most_pairs=4, title=None):
    """Draws samples beside one another in planes of two values (figure 3.6).

    Each sample has a row; where there is only one plane, a column.

    Args:
        samples: {name: (n, d) array}; the axes are the same for all, and leave out the outermost
            thousandth at either end.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        most_pairs: planes at most: values 0 and 1, 2 and 3, and so on.
        title: a heading.
    """
    path = checked_path(path)
    flat = {name: np.reshape(x, (len(x), -1)) for name, x in samples.items()}
    size = min(x.shape[1] for x in flat.values())
    if size < 2:
        return _draw_histograms(flat, path, title)
    pairs = [(i, i + 1) for i in range(0, size - 1, 2)][:most_pairs]
    shape = (len(flat), len(pairs)) if len(pairs) > 1 else (1, len(flat))
    page = new_sheet(2.7 * shape[1] + 0.4, 2.7 * shape[0] + 0.3)
    panels = page.subplots(*shape, squeeze=False).reshape(len(flat), len(pairs))
    together = np.concatenate(list(flat.values()))
    ends = np.percentile(together, [0.1, 99.9], axis=0)
    colors = itertools.cycle((BLUE, GREEN, VERMILION, PURPLE))
    for row, color, (name, x) in zip(panels, colors, flat.items(), strict=False):
        for axes, (i, j) in zip(row, pairs, strict=True):
            style_axes(axes, f"x{i + 1}", f"x{j + 1}", name if axes is row[0] else None)
            few = x[:_MOST_POINTS]
            axes.scatter(few[:, i], few[:, j], s=2, color=color, linewidths=0)
            for k, limits in ((i, axes.set_xlim), (j, axes.set_ylim)):
                low, high = ends[:, k]
                room = 0.08 * (high - low) or 1.0
                limits(low - room, high + room)
    if title:
        page.suptitle(clean(title), fontsize=11, family=FONT, color=INK, parse_math=False)
    save(page, path)


def _draw_histograms(samples, path, title):
    page = new_sheet(5.2, 3.4)
    axes = page.subplots()
    style_axes(axes, "x", "density", title)
    together = np.concatenate(list(samples.values()))
    bins = np.linspace(*np.percentile(together, [0.1, 99.9]), 61)
    for color, (name, x) in zip(itertools.cycle((BLUE, GREEN, VERMILION)), samples.items()):
        axes.hist(x.ravel(), bins, density=True, histtype="step", color=color, label=name)
    add_legend(axes)
    save(page, path)


def draw_spectrum(tangents, conservativity, path, *, title=None):
    """Draws what dr/dx says at data points: its eigenvalues by rank, and its asymmetry.

    Args:
        tangents: `Tangents` of n points.
        conservativity: (n,), of the same points.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    page = new_sheet(8.6, 3.4)
    left, right = page.subplots(1, 2)
    style_axes(left, "rank", "eigenvalue of dr/dx", title)
    rank = np.arange(1, tangents.eigenvalues.shape[1] + 1)
    low, middle, high = np.percentile(tangents.eigenvalues, [25, 50, 75], axis=0)
    left.fill_between(rank, low, high, color=BLUE, alpha=0.25, linewidth=0)
    left.plot(rank, middle, color=BLUE, marker="o" if len(rank) < 40 else None, markersize=4)
    left.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    for level in (0, 1):
        left.axhline(level, color=LINE, linewidth=0.8)
    style_axes(right, "|J − J'| / 2|J|", "points")
    left.set_xlim(0.5, len(rank) + 0.5)
    bins = np.linspace(0, max(1e-3, conservativity.max()), 41)
    right.hist(conservativity, bins, color=BLUE, edgecolor=GRID, linewidth=0.3)
    save(page, path)


def draw_attractors(attractors, path, *, title=None):
    """Draws the attractors by distance from the data and spectral radius, as large as visited.

    Args:
        attractors: `Attractors`.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    page = new_sheet(5.2, 3.6)
    axes = page.subplots()
    style_axes(axes, "distance from the data / sigma", "largest |eigenvalue| of dr/dx", title)
    share = attractors.starts / max(1, len(attractors.end))
    for mask, color, label in (
        (~attractors.spurious, GREEN, "at the data"),
        (attractors.spurious, VERMILION, "spurious"),
    ):
        if mask.any():
            axes.scatter(
                attractors.distance[mask], attractors.spectral_radius[mask],
                s=12 + 300 * share[mask], color=color, alpha=0.6, linewidths=0, label=label,
            )  # fmt: skip
    axes.axhline(1, color=LINE, linewidth=0.8)
    if len(attractors.points):
        # Beside the axes, where its marks are not taken for attractors.
        add_legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(page, path)


class _Plane:
    """Two coordinates of points (n, ...): their own, or their largest principal components."""

    def __init__(self, data):
        self._shape = data.shape[1:]
        flat = data.reshape(len(data), -1).astype(np.float64)
        self.whole = flat.shape[1] == 2
        self._center, self._axes = np.zeros(2), np.eye(2)
        if not self.whole:
            self._center = flat.mean(axis=0)
            centered = flat - self._center
            self._axes = np.linalg.eigh(centered.T @ centered)[1][:, :-3:-1]

    def project(self, points):
        """Returns the coordinates (n, 2) of points (n, ...)."""
        return (np.reshape(points, (len(points), -1)) - self._center) @ self._axes

    def lift(self, coordinates):
        """Returns points (n, ...) of the plane."""
        flat = self._center + coordinates @ self._axes.T
        return flat.reshape(-1, *self._shape)
