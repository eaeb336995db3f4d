"""Error against depth, one line per series: figure 9.4b.

Like `network`, this module takes plain numbers and names and writes a file.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.plotting.style import (
    CATEGORICAL,
    FONT,
    INK,
    LINE,
    SOFT,
    add_legend,
    add_title,
    checked_path,
    new_figure,
    save,
    shortened,
    style_axes,
    text_width,
)
from thesis_tf.probes.plots.series import merged, missing

# Markers distinguish series in black-and-white print.
_MARKERS = "osD^vPX"
_SUBS = (1.0, 2.0, 5.0)  # of ticks in a decade
COMMONEST = "always the commonest class"  # what `chance` is the error of

Series = Sequence[tuple[str, float | None, float | None]]  # tap, error, standard error


def draw_curve(
    series: Mapping[str, Series],
    path: Path,
    *,
    ylabel: str = "test error",
    reference: float | None = None,
    reference_label: str = "the model's error",
    chance: float | Mapping[str, float] | None = None,
    links: Container[tuple[str, str]] | None = None,
    log: bool = False,
    title: str | None = None,
) -> None:
    """Draws the probes' errors against depth, one line per series (figure 9.4b).

    Args:
        series: {label: [(tap, error, standard error or None), ...]} in depth order. An error of
            None or NaN leaves a gap; a series may lack taps that others have.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        ylabel: the label of the errors' axis.
        reference: a value to draw as a dashed line, such as the model's error.
        reference_label: the label of the reference in the legend.
        chance: the error of always predicting the commonest class, drawn as a dotted line; or a
            dict from a series' label to it, for dotted lines of the colors of the series.
        links: pairs of taps; a line joins two successive points only if they are a pair, so that
            parallel branches of a network don't look like one. None joins all points.
        log: whether the errors' axis is logarithmic; an error of zero is drawn at its lower end, as
            a hollow marker at the tick "0".
        title: a heading.

    Raises:
        ValueError: there is no series, a series is empty or has a tap twice, or the suffix is
            invalid.
    """
    path = checked_path(path)
    series = {str(label): list(points) for label, points in series.items()}
    if not series:
        raise checks.invalid("`series`", "at least one series", "none")
    names = {label: [name for name, _, _ in points] for label, points in series.items()}
    for label, taps in names.items():
        if not taps:
            raise checks.invalid(f"`series[{label!r}]`", "at least one point", "none")
        if repeated := [tap for tap in taps if taps.count(tap) > 1]:
            raise checks.invalid(f"`series[{label!r}]`", "each tap once", f"{repeated[0]!r} twice")
    taps = merged(names.values())
    width = float(np.clip(1.6 + 0.42 * len(taps), 5.2, 11))
    figure = new_figure(width, 4, w_pad=0.12, h_pad=0.07)
    axes = figure.add_subplot()
    error_label = f"{ylabel}, logarithmic" if log else ylabel
    style_axes(axes, "tap, in order of depth", error_label, size=8.5, grid="y")
    _name_taps(axes, taps, 72 * (width - 1))
    every = [error for points in series.values() for _, error, _ in points]
    errors = [error for error in every if error is not None and not missing(error)]
    positive = [value for value in (*errors, reference) if value is not None and value > 0]
    floor = -math.inf
    if log and positive:
        floor = 0.7 * min(positive)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(
            _with_zero(floor) if min(errors) <= 0 else ticker.LogLocator(subs=_SUBS)
        )
        axes.yaxis.set_major_formatter(
            ticker.FuncFormatter(lambda value, _: f"{0 if value <= floor else value:g}")
        )
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    at = {tap: place for place, tap in enumerate(taps)}
    colored = {label: _color(number, len(series)) for number, label in enumerate(series)}
    for number, points in enumerate(series.values()):
        _draw_series(axes, number, list(colored.values())[number], points, at, floor, links)
    legend = list(series)
    lines: list[tuple[float | None, str, Any, tuple[int, int]]]
    lines = [(reference, reference_label, INK, (5, 3))]
    if isinstance(chance, Mapping):
        for label, color in colored.items():
            lines.append((chance.get(label), f"{label}: {COMMONEST}", color, (1, 2)))
    else:
        lines.append((chance, COMMONEST, SOFT, (1, 2)))
    for value, name, color, dashes in lines:
        if value is not None:
            axes.axhline(value, color=color, lw=1, ls=(0, dashes), label="line")
            legend.append(name)
    if min(errors, default=0) >= 0:
        axes.set_ylim(bottom=max(0, floor))
    add_title(figure, title, size=10.5, x=0.015, weight="bold", ha="left", wrap=True)
    _place_legend(axes, legend, 72 * width - 60)
    save(figure, path)


def _with_zero(floor: float) -> ticker.Locator:
    """Returns the locator of a logarithmic axis whose lower end stands for zero."""

    class WithZero(ticker.LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            return [floor, *(v for v in super().tick_values(vmin, vmax) if v > 1.2 * floor)]

    return WithZero(subs=_SUBS)


def _color(number: int, count: int) -> Any:
    if count > len(CATEGORICAL):  # too many to distinguish: colors show their order instead
        return matplotlib.colormaps["viridis"](0.92 * number / (count - 1))
    return CATEGORICAL[number % len(CATEGORICAL)]


def _draw_series(
    axes: Axes,
    number: int,
    color: Any,
    points: Series,
    at: Mapping[str, int],
    floor: float,
    links: Container[tuple[str, str]] | None,
) -> None:
    in_order = sorted(points, key=lambda point: at[point[0]])
    rows: list[tuple[float, float | None, float | None]] = []
    for before, (name, value, uncertainty) in zip([None, *in_order], in_order, strict=False):
        if before is not None and links is not None and (before[0], name) not in links:
            rows.append((at[name] - 0.5, math.nan, math.nan))  # a gap
        rows.append((at[name], value, uncertainty))
    x, error, spread = (np.array(column, float) for column in zip(*rows, strict=True))
    crowded = len(at) > 40
    style: dict[str, Any] = {
        "color": color,
        "marker": _MARKERS[number % len(_MARKERS)],
        "ms": 2 if crowded else 4,
        "zorder": 3,
        "clip_on": False,
    }
    drawn = np.maximum(error, floor)
    axes.plot(x, drawn, lw=1.3, label="series", gid=f"series-{number}", **style)
    zero = error < floor
    if zero.any():
        axes.plot(x[zero], drawn[zero], lw=0, mfc="white", gid=f"zero-{number}", **style)
    known = np.isfinite(error + spread)
    low, high = np.maximum(error - spread, floor), error + spread
    if crowded and known.any():
        axes.fill_between(x, low, high, where=known, color=color, alpha=0.2, lw=0)
    elif known.any():
        bars: dict[str, Any] = dict(fmt="none", ecolor=color, elinewidth=1, capsize=2)
        middle = np.maximum(error, floor)
        sides = np.stack([middle - low, np.maximum(high, floor) - middle])
        axes.errorbar(x[known], middle[known], sides[:, known], **bars)


def _name_taps(axes: Axes, taps: Sequence[str], length: float) -> None:
    """Writes the names of as many taps as fit on an axis of `length` points."""
    names = [shortened(tap) for tap in taps]
    spacing = length / len(taps)
    step = 1
    text: dict[str, Any] = {"ha": "center"}
    if max(text_width(name, 7.5) for name in names) > spacing - 4:
        angle = 45 if spacing > 13 else 90
        step = math.ceil(9.5 / spacing)
        text = {"rotation": angle, "ha": "right", "rotation_mode": "anchor"}
        text["va"] = "top" if angle == 45 else "center"
    # The first name, the last name, and evenly spaced names that fit between them.
    shown = np.linspace(0, len(taps) - 1, (len(taps) - 1) // step + 1).round().astype(int)
    axes.set_xticks(range(len(taps)), minor=True)
    axes.set_xticks(
        shown, [names[i] for i in shown], family=FONT, fontsize=7.5, parse_math=False, **text
    )
    axes.set_xlim(-0.6, len(taps) - 0.4)
    axes.tick_params(which="both", color=LINE, labelcolor=INK)
    axes.tick_params(axis="x", which="minor", length=2)
    axes.tick_params(axis="y", labelsize=7.5, labelfontfamily=FONT)
    axes.locator_params(axis="y", nbins=6)


def _place_legend(axes: Axes, names: Sequence[str], room: float) -> None:
    """Puts the legend above the axes if two lines there are enough, and otherwise next to them."""
    columns = int(room // (max(text_width(name, 7.5) for name in names) + 40))
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    if len(names) <= 2 * columns:
        rows = math.ceil(len(names) / columns)
        columns = math.ceil(len(names) / rows)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": columns}
    add_legend(axes, names=names, size=7.5, color=INK, borderaxespad=0, **place)
