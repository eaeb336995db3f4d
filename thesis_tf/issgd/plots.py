"""Plots of chapter 7: training curves over runs, and square roots of gradient variances."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.issgd.training.history import History
from thesis_tf.plotting.style import (
    BLUE,
    FONT,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    add_legend,
    add_title,
    checked_path,
    clean,
    new_figure,
    save,
    style_axes,
)

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
COLUMNS = {
    "loss": "training loss of the minibatches",
    "train_error": "training error",
    "validation_error": "validation error",
    "test_error": "test error",
}
AXES = {0: "steps", 1: "seconds"}


def draw_training(
    runs: Mapping[str, Sequence[History]],
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    title: str | None = None,
) -> None:
    """Draws training curves as medians and quartiles over runs (figures 7.2 and 7.3).

    The loss is that of the minibatches, scaled so that it estimates the mean over all examples;
    errors are means over all examples of a split. A gray band is where a single run drew uniformly.

    Args:
        runs: {label: [`History`, ...]}: the runs of each setting, with several seeds.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        columns: {name in a record's `values`: label of its axis}; names without values are
            skipped. None draws losses and errors.
        title: a heading.
    """
    path = checked_path(path)
    everything = [h for several in runs.values() for h in several]
    columns = {n: text for n, text in (columns or COLUMNS).items() if _have(everything, n)}
    if not columns:
        raise checks.invalid("`runs`", "runs with records", "none with records")
    figure = new_figure(4.2 * len(columns), 6.2)
    panels = figure.subplots(2, len(columns), squeeze=False)
    for row, (column, text) in itertools.product(AXES, enumerate(columns.items())):
        axes, (name, label) = panels[row][column], text
        style_axes(axes, AXES[row], label)
        for color, (run, several) in zip(itertools.cycle(COLORS), runs.items(), strict=False):
            _draw_quartiles(axes, [h.column(name) for h in several], row, clean(run), color)
        _make_logarithmic(axes)
        if len(everything) == 1:
            _mark_uniform(axes, everything[0], row)
    if len(runs) > 1:
        _legend(panels[0][0], max(map(len, runs.values())))
    elif panels[0][0].patches:
        add_legend(panels[0][0])
    add_title(figure, title, size=11)
    save(figure, path)


def draw_gradient_variance(
    histories: Sequence[History], path: Path, *, title: str | None = None
) -> None:
    """Draws square roots of gradient variances, as medians and quartiles over runs (figure 7.4).

    Args:
        histories: the `History` of each run; some records of each have gradient variances.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    runs = [[r for r in h.records if r.gradient_variances] for h in histories]
    names = dict.fromkeys(name for run in runs for r in run for name in r.gradient_variances)
    if not names:
        raise checks.invalid("`histories`", "records with gradient variances", "none")
    figure = new_figure(7.2, 3.8)
    axes = figure.subplots()
    exact = all(r.true_gradient_squared is not None for run in runs for r in run)
    style_axes(axes, "steps", "√ Tr Σ(q)" if exact else "√ Tr Σ(q), upper bound")
    for color, name in zip(itertools.cycle(COLORS), names, strict=False):
        curves = [
            [
                (r.step, 0.0, max(r.gradient_variances[name], 0) ** 0.5)
                for r in run
                if name in r.gradient_variances
            ]
            for run in runs
        ]
        # The smallest variance often lies under another curve, and that of the draws is the one
        # of the smoothing that was used.
        style = "--" if name == "ideal" else "-"
        _draw_quartiles(axes, curves, 0, name, color, style, wide=name == "actual")
    _make_logarithmic(axes)
    # Next to the axes, since curves may be anywhere.
    _legend(axes, len(runs), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if title:
        axes.set_title(clean(title), fontsize=10, family=FONT, color=INK, parse_math=False)
    save(figure, path)


def _make_logarithmic(axes: Axes) -> None:
    """Makes an axis logarithmic if its values are positive and span more than a factor of 3."""
    low, high = axes.dataLim.intervaly
    if not 0 < 3 * low < high:
        return
    axes.set_yscale("log")
    # Over several decades there is no room for numbers between powers of ten.
    steps = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _have(histories: Sequence[History], name: str) -> bool:
    return any(history.column(name) for history in histories)


def _draw_quartiles(
    axes: Axes,
    points: Sequence[Sequence[tuple[int, float | None, float]]],
    x: int,
    label: str,
    color: str,
    style: str = "-",
    wide: bool = False,
) -> None:
    """Draws the median of curves [(step, seconds, value), ...], with their quartiles as a band."""
    curves = [np.array(curve, float) for curve in points if len(curve)]
    if not curves:
        return
    # The range in which all curves are known, which can be a single place.
    end = min(curve[-1, x] for curve in curves)
    start = min(max(curve[0, x] for curve in curves), end)
    # Only recorded positions: lines between them are straight on either scale of the axis.
    grid = np.unique(np.concatenate([[start, end], *(curve[:, x] for curve in curves)]))
    grid = grid[(start <= grid) & (grid <= end)]
    values = np.stack([np.interp(grid, curve[:, x], curve[:, 2]) for curve in curves])
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    if len(curves) > 1:
        axes.fill_between(grid, low, high, color=color, alpha=0.2, linewidth=0)
    marker = "o" if len(grid) == 1 else None
    how: dict[str, Any] = {"linewidth": 1.5}
    if wide:
        how = {"linewidth": 5, "alpha": 0.35, "zorder": 1.9}
    axes.plot(grid, middle, style, color=color, marker=marker, label=label, **how)


def _mark_uniform(axes: Axes, history: History, x: int) -> None:
    """Marks where draws were uniform: a record is about the steps since the one before it."""
    records = [(r.seconds if x else r.step, r.uniform) for r in history.records]
    label = "uniform draws"
    for (start, _), (end, uniform) in zip([(0.0, None), *records], records, strict=False):
        if uniform and start is not None and end is not None:
            axes.axvspan(start, end, color=GRID, linewidth=0, zorder=0, label=label)
            label = "_"


def _legend(axes: Axes, count: int, **place: Any) -> None:
    heading = f"medians and quartiles\nof {count} runs" if count > 1 else None
    add_legend(axes, heading=heading, **place)
