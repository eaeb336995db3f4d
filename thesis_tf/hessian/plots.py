"""Plots of chapter 11: functions that draw results of `thesis_tf.hessian` to files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.hessian.density import SpectralDensity
from thesis_tf.hessian.eigen.eigenpairs import Eigenpairs
from thesis_tf.hessian.history import SpectrumEntry, SpectrumHistory
from thesis_tf.hessian.line_search import BestStep, LineSearch
from thesis_tf.plotting.style import (
    DIVERGING,
    GRID,
    INK,
    LINE,
    SOFT,
    add_legend,
    add_title,
    checked_path,
    draw_text,
    heading,
    new_figure,
    save,
    style_axes,
)

LOWER, UPPER = DIVERGING


def draw_eigenvalues(
    pairs: Eigenpairs,
    path: Path,
    *,
    density: SpectralDensity | None = None,
    title: str | None = None,
) -> None:
    """Draws the eigenvalues at both ends by rank, and optionally the density of the spectrum.

    Args:
        pairs: the eigenpairs; those that have not converged are drawn as hollow markers.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        density: the density, which is drawn next to them with a band of two standard errors.
        title: a heading.
    """
    path = checked_path(path)
    figure = new_figure(9 if density is not None else 5.2)
    panels = figure.subplots(1, 2 if density is not None else 1, squeeze=False)[0]
    axes = panels[0]
    style_axes(axes, "rank from its end", "eigenvalue", title=title)
    values, converged, k = pairs.values, pairs.converged, pairs.smallest
    for color, end, good, label in (
        (UPPER, values[k:][::-1], converged[k:][::-1], "largest"),
        (LOWER, values[:k], converged[:k], "smallest"),
    ):
        ranks = np.arange(1, len(end) + 1)
        axes.vlines(ranks, 0, end, color=color, linewidth=1)
        fills = np.where(good, color, "white")
        axes.scatter(ranks, end, s=26, c=fills, edgecolors=color, zorder=3, label=label)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    add_legend(axes)
    if density is not None:
        axes = panels[1]
        style_axes(axes, "eigenvalue", "density")
        floor = 1e-9 / max(np.ptp(density.grid), 1e-300)
        axes.set_yscale("log", nonpositive="clip")
        band = 2 * density.standard_error
        # The lower edge is at least a tenth of the density, for the sake of the logarithmic axis.
        low = np.maximum(density.density - band, density.density / 10)
        low, high = (np.maximum(edge, floor) for edge in (low, density.density + band))
        axes.fill_between(density.grid, low, high, color=GRID)
        axes.plot(density.grid, np.maximum(density.density, floor), color=INK, linewidth=1)
        axes.set_ylim(bottom=floor)
    add_title(figure, heading(None, pairs.warnings(), width=64), size=8)
    save(figure, path)


def draw_line_searches(
    searches: Mapping[str, LineSearch], path: Path, *, title: str | None = None
) -> None:
    """Draws the loss along directions and its quadratic model (figures 11.1 and 11.2).

    Args:
        searches: {label: `LineSearch`}, one panel each.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    if not searches:
        raise checks.invalid("`searches`", "at least one line search", "none")
    figure = new_figure(3.6 * len(searches) if len(searches) > 1 else 5.2, 3.4)
    panels = figure.subplots(1, len(searches), squeeze=False)[0]
    for axes, (label, search) in zip(panels, searches.items(), strict=True):
        style_axes(
            axes, "step size alpha", "loss", title=f"{label}: lambda = {search.curvature:.4g}"
        )
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
        shown = [search.initial_loss, *search.loss[np.isfinite(search.loss)]]
        inside = min(search.alphas) <= search.optimum <= max(search.alphas)
        if inside and search.curvature > 0:
            shown.append(search.initial_loss - search.slope**2 / (2 * search.curvature))
        room = 0.15 * max(np.ptp(shown), 1e-12)
        axes.plot(search.alphas, search.loss, color=INK, linewidth=1.6, label="loss")
        fine = np.linspace(min(search.alphas), max(search.alphas), 200)
        quadratic = search.initial_loss + search.slope**2 * (fine**2 * search.curvature / 2 - fine)
        axes.plot(fine, quadratic, color=UPPER, linestyle="--", label="quadratic")
        # The axes contain the whole loss and a minimum of the quadratic model, but not all of the
        # model.
        axes.set_ylim(min(shown) - room, max(shown) + room)
        if inside:
            axes.axvline(search.optimum, color=LOWER, linestyle=":", label="1 / lambda")
        axes.axvline(0, color=LINE, linewidth=0.8)
        # Below the axes, since curves and lines may be anywhere.
        add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    add_title(figure, title)
    save(figure, path)


def draw_best_steps(
    steps: Sequence[BestStep],
    path: Path,
    *,
    title: str | None = None,
    panels: Sequence[str] = ("decrease", "size"),
) -> None:
    """Draws the best step along each eigenvector (figures 11.3 and 11.4).

    Args:
        steps: a `BestStep` along each eigenvector, whose curvature is the eigenvalue.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
        panels: from the left: "decrease", the decrease of the loss against the eigenvalue; "size",
            1 / |alpha*| against |lambda|, with the line on which the quadratic model's optimum lies
            (Eq 11.2).
    """
    path = checked_path(path)
    if not len(steps):
        raise checks.invalid("`steps`", "at least one step", "none")
    values = np.array([step.curvature for step in steps])
    kinds: dict[str, Callable[..., None]] = {"decrease": _draw_decreases, "size": _draw_sizes}
    if not panels:
        raise checks.invalid("`panels`", f"some of {', '.join(kinds)}", "none")
    chosen = [kinds[checks.one_of("`panels`", panel, kinds)] for panel in panels]
    figure = new_figure(9 if len(chosen) > 1 else 5.2)
    for axes, draw in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        draw(axes, values, steps, title if draw is chosen[0] else None)
        add_legend(axes)
    save(figure, path)


def _draw_decreases(
    axes: Axes, values: np.ndarray, steps: Sequence[BestStep], title: str | None
) -> None:
    style_axes(axes, "eigenvalue", "decrease of the loss by the best step", title=title)
    decreases = np.array([step.decrease for step in steps])
    for chosen, style in _by_sign(values):
        axes.scatter(values[chosen], decreases[chosen], clip_on=False, **style)
    axes.axvline(0, color=LINE, linewidth=0.8)
    axes.set_ylim(bottom=0)


def _draw_sizes(
    axes: Axes, values: np.ndarray, steps: Sequence[BestStep], title: str | None
) -> None:
    style_axes(axes, "|eigenvalue|", "1 / |alpha*|", title=title)
    alphas = np.array([abs(step.alpha) for step in steps])
    moved = np.isfinite(alphas) & (alphas > 0)
    for chosen, style in _by_sign(values):
        chosen = chosen & moved
        axes.scatter(abs(values[chosen]), 1 / alphas[chosen], **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = np.array([abs(values[values != 0]).min(), abs(values).max()]) if values.any() else [1, 1]
    axes.plot(ends, ends, color=SOFT, linestyle="--", label="1 / alpha = lambda (Eq 11.2)")


def _by_sign(values: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yields a mask (k,) and the style of its points, for positive eigenvalues and the others."""
    yield values > 0, {"s": 26, "color": UPPER, "label": "positive curvature"}
    yield values <= 0, {"s": 26, "color": LOWER, "label": "negative curvature"}


def draw_history(
    history: SpectrumHistory,
    path: Path,
    *,
    title: str | None = None,
    xlabel: str = "training step",
    marks: Mapping[str, int] | None = None,
) -> None:
    """Draws eigenvalues and loss over training steps (figures 11.5 and 11.6).

    Both ends have the same axis, which is linear around zero and logarithmic elsewhere. The extreme
    eigenvalue of each end is a thick line; the others are paler with increasing rank.

    Args:
        history: the history of a `SpectrumTracker` or a `HessianMonitor`; extreme eigenvalues of
            steps where eigenpairs have not converged are hollow markers.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
        xlabel: the label of the axis of steps, for histories of other numbers, such as epochs.
        marks: {label: step}, for lines at these steps, such as {"one epoch": 1875}.
    """
    path = checked_path(path)
    entries = history.entries
    if not entries:
        raise checks.invalid("`history`", "at least one entry", "none")
    steps = history.steps
    figure = new_figure(7.2, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (5, 2)})
    style_axes(upper, "", "eigenvalue", title=title)
    style_axes(lower, xlabel, "loss")
    _draw_fans(upper, steps, entries)
    losses = [entry.loss for entry in entries]
    lower.plot(steps, losses, color=INK, linewidth=1.8, marker="o", markersize=3.5)
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        lower.set_yscale("log")
        lower.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
        lower.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        lower.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        lower.set_ylim(min(0, *losses), max(0, *losses) + 0.1 * (max(0, *losses) or 1))
    lower.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    if len(steps) > 2 and max(steps) >= 10 * max(1, sorted(steps)[1]):
        # Most checkpoints are early: each decade gets the same width, and so does step 0.
        linear = max(1, sorted(steps)[1])
        lower.set_xscale("symlog", linthresh=linear)
        lower.set_xlim(min(steps) - 0.1 * linear, 1.2 * max(steps))
        lower.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    for label, step in (marks or {}).items():
        for axes in (upper, lower):
            axes.axvline(step, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        across = upper.get_xaxis_transform()  # x in data, y as a fraction of the axes
        draw_text(upper, step, 1.01, label, 8, color=SOFT, va="bottom", transform=across)
    add_title(figure, heading(None, history.warnings()), size=8)
    save(figure, path)


def _draw_fans(axes: Axes, steps: Sequence[int], entries: Sequence[SpectrumEntry]) -> None:
    """Draws the eigenvalues of both ends on one axis, with one line per rank."""
    outermost: list[np.ndarray] = []
    ends = {
        "largest": ([entry.largest for entry in entries], UPPER),
        "smallest": ([entry.smallest for entry in entries], LOWER),
    }
    for end, (rows, color) in ends.items():
        values = np.array(rows)  # (steps, ranks)
        if not values.size:
            continue
        outermost.append(abs(values[:, 0]))
        axes.fill_between(steps, values[:, 0], values[:, -1], color=color, alpha=0.12, linewidth=0)
        for rank in range(values.shape[1] - 1, 0, -1):
            pale = 0.75 - 0.5 * rank / values.shape[1]
            axes.plot(steps, values[:, rank], color=color, linewidth=0.8, alpha=pale)
        count = values.shape[1]
        label = f"{count} {end}" if count > 1 else end
        style: dict[str, Any] = {"color": color, "linewidth": 2.2, "marker": "o", "markersize": 4}
        axes.plot(steps, values[:, 0], label=label, **style)
        left = [number for number, entry in enumerate(entries) if not entry.converged]
        hollow = {**style, "linestyle": "", "markerfacecolor": "white"}
        axes.plot(np.take(steps, left), values[left, 0], **hollow)
    axes.axhline(0, color=INK, linewidth=0.9)
    sizes = np.concatenate(outermost)
    if (sizes > 0).any():
        # Linear up to the power of ten below the smallest extreme one; at most four decades.
        least = max(sizes[sizes > 0].min(), sizes.max() / 1e4)
        linear = 10.0 ** np.floor(np.log10(least))
        axes.margins(y=0.08)
        axes.set_yscale("symlog", linthresh=linear, linscale=0.25)
        axes.yaxis.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=linear))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    add_legend(axes)
