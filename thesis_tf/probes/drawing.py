"""Pictures of probes: error against depth, and the network coloured by its probes' errors.

These are the figures of chapter 9. The functions take plain numbers and names and write a file;
they use matplotlib's objects, never pyplot, so they need no display and may run in threads.
"""

import math
import re
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colors, figure, patches, ticker
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path

from thesis_tf import _checks
from thesis_tf.probes.figures import (
    FONT,
    GRID,
    INK,
    LINE,
    SOFT,
    checked_path,
    clean,
    draw_text,
    save,
    shortened,
    text_width,
)
from thesis_tf.probes.layout import arrange
from thesis_tf.probes.page import NAME_HEIGHT, PROBE, Page

_VALUE_SIZE, _NAME_SIZE, _NOTE_SIZE = 6.4, 6.0, 7.0
_MARGIN = 16

# Good to bad: the hue goes from blue through green and yellow to red and never turns back.
_SCALE = colors.LinearSegmentedColormap.from_list(
    "probe_error", ["#2b62b5", "#2a9aa8", "#4fae62", "#b5c94a", "#f2b33d", "#e8743a", "#cf2f2a"]
)
_UNMEASURED = "#d5d7da"

# Okabe and Ito's colours, which stay apart for colour-blind readers; the markers do in print.
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d")
_MARKERS = "osD^vPX"


class Mark(NamedTuple):
    """What a probe measured at one tap.

    Attributes:
        value: the error, or None or NaN where nothing was measured.
        tooltip: text for a reader who points at the tap in an SVG, besides its name and value.
    """

    value: float | None
    tooltip: str = ""


def error_color(value, value_range, log=False):
    """Returns the colour of a value as "#rrggbb": blue and green are good, red is bad.

    Args:
        value: a number, or None or NaN for a tap that was not measured, which is grey.
        value_range: (good, bad), the values at the two ends; beyond them the colour stays.
        log: whether equal ratios, and not equal differences, look equally far apart.
    """
    if _missing(value):
        return _UNMEASURED
    ends = np.asarray(value_range, float)
    value = np.clip(value, *sorted(ends))
    good, bad, value = np.log([*ends, value]) if log else (*ends, value)
    return colors.to_hex(_SCALE(float((value - good) / (bad - good))))


def draw_network(
    panels, edges, path, *, value_range, log=False, value_label="test error", title=None
):
    """Draws a network with each tap in the colour of its probe's error (figures 9.5, 9.7, 9.9).

    Depth runs from left to right; a deep network goes on in a further strip below. Each tap that
    was measured carries its probe behind a diode, since no gradient flows back through it. Names
    and values without room are left out; an SVG has all of them as tooltips.

    Args:
        panels: {panel title: {tap: Mark}}; the panels, say checkpoints, stand under one another
            on one scale. A tap that a panel lacks was not measured there.
        edges: (parent, child) pairs of taps, a DAG; a tap may also have no edge.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        value_range: (good, bad), the values at the ends of the colour scale, say
            (0, error at chance).
        log: whether the colour scale is logarithmic; both ends are positive then.
        value_label: what the values are.
        title: a heading.

    Raises:
        ValueError: there is no tap, an edge names an unknown one, the edges form a cycle,
            `value_range` is not two different finite numbers, positive ones on a logarithmic
            scale, or the suffix is another.
    """
    path = checked_path(path)
    ends = np.asarray(value_range, float)
    sound = ends.shape == (2,) and np.isfinite(ends).all() and ends[0] != ends[1]
    if not sound or (log and ends.min() <= 0):
        expected = f"two different finite{' positive' * log} numbers (good, bad)"
        raise _checks.invalid("`value_range`", expected, repr(value_range))
    panels = {str(name): marks for name, marks in panels.items()}
    taps = _merged(panels.values())
    if not taps:
        raise _checks.invalid("`panels`", "marks of at least one tap", repr(panels))
    page = Page(arrange(taps, edges), _labels(taps), len(panels))

    head = 40 if title else 22
    step = page.height + (28 if any(panels) else 14)
    scale_label = value_label + ", logarithmic" * log
    # The header's two sides and the title stay apart on a narrow page too.
    least = 425 + text_width(scale_label, _NOTE_SIZE), 1.2 * text_width(title or "", 10.5) + 32
    width, height = max(page.width + 2 * _MARGIN, *least), head + step * len(panels) + 10
    sheet = figure.Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = sheet.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    marks = {name: {tap: panels[name].get(tap, Mark(None)) for tap in taps} for name in panels}
    gaps = any(_missing(mark.value) for panel in marks.values() for mark in panel.values())
    _draw_header(axes, width, title, scale_label, ends, gaps)
    tooltips = {}
    for number, (name, panel) in enumerate(marks.items()):
        top = head + (number + 1) * step - page.height
        draw_text(axes, _MARGIN, top - 12, name, 8.5, ha="left", weight="bold")
        _draw_edges(axes, page, top)
        for index, (tap, mark) in enumerate(panel.items()):
            gid = f"tap-{number}-{index}"
            _draw_tap(axes, page, top, tap, mark, error_color(mark.value, ends, log), gid)
            shown = "not measured" if _missing(mark.value) else f"{value_label} {mark.value:.4g}"
            tooltips[gid] = "\n".join(filter(None, [tap, shown, mark.tooltip]))
        measured = [page.places[tap] for tap in taps if not _missing(panel[tap].value)]
        feet = [(x + _MARGIN, y + top - page.half) for x, y in measured]
        axes.add_patch(_probes(feet, page.scale))
    save(sheet, path, tooltips)


def draw_curve(
    series,
    path,
    *,
    ylabel="test error",
    reference=None,
    reference_label="the model's own error",
    chance=None,
    log=False,
    title=None,
):
    """Draws the probes' errors against depth, one line a series (figure 9.4b).

    Args:
        series: {label: [(tap, error, standard error or None), ...]} in depth order. An error of
            None or NaN leaves a gap; a series may lack taps that others have.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        ylabel: what the errors are.
        reference: a value to draw as a dashed line, say the error of the model itself.
        reference_label: what the legend calls it.
        chance: the value at chance, drawn as a dotted line.
        log: whether the error's axis is logarithmic; an error of zero stands on its lower end.
        title: a heading.

    Raises:
        ValueError: there is no series, one has no point or a tap twice, or the suffix is another.
    """
    path = checked_path(path)
    series = {str(label): list(points) for label, points in series.items()}
    if not series:
        raise _checks.invalid("`series`", "at least one series", "none")
    names = {label: [name for name, _, _ in points] for label, points in series.items()}
    for label, taps in names.items():
        if not taps:
            raise _checks.invalid(f"`series[{label!r}]`", "at least one point", "none")
        if repeated := [tap for tap in taps if taps.count(tap) > 1]:
            raise _checks.invalid(f"`series[{label!r}]`", "each tap once", f"{repeated[0]!r} twice")
    taps = _merged(names.values())
    width = float(np.clip(1.6 + 0.42 * len(taps), 5.2, 11))
    sheet = figure.Figure(figsize=(width, 4), facecolor="white", layout="constrained")
    sheet.get_layout_engine().set(w_pad=0.12, h_pad=0.07)
    axes = sheet.add_subplot()
    _style_axes(axes, taps, 72 * (width - 1))
    errors = [error for points in series.values() for _, error, _ in points if not _missing(error)]
    positive = [error for error in errors if error > 0]
    floor = -math.inf
    if log and positive:
        floor = 0.7 * min(positive)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    at = {tap: place for place, tap in enumerate(taps)}
    for number, points in enumerate(series.values()):
        _draw_series(axes, number, len(series), points, at, floor)
    legend = list(series)
    for value, name, color, dashes in (
        (reference, reference_label, INK, (5, 3)),
        (chance, "chance", SOFT, (1, 2)),
    ):
        if value is not None:
            axes.axhline(value, color=color, lw=1, ls=(0, dashes), label="line")
            legend.append(name)
    if min(errors, default=0) >= 0:
        axes.set_ylim(bottom=max(0, floor))
    style = {"family": FONT, "color": INK, "parse_math": False}
    axes.set_ylabel(clean(ylabel) + ", logarithmic" * log, fontsize=8.5, **style)
    axes.set_xlabel("tap, in order of depth", fontsize=8.5, **style)
    if title:
        text = {"fontsize": 10.5, "weight": "bold", "ha": "left", "wrap": True}
        sheet.suptitle(clean(title), x=0.015, **text, **style)
    _add_legend(axes, legend, 72 * width - 60)
    save(sheet, path)


def _labels(taps):
    """Returns {tap: [(lines of its name, their width), ...]}: in one line and, maybe, in two."""
    found = {}
    for tap in taps:
        name = " ".join(tap.split())
        forms = [[shortened(name)]]
        breaks = [match.end() for match in re.finditer(r"[\W_]+", name[:-1])]
        if breaks:
            middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
            forms.append([shortened(name[:middle]), shortened(name[middle:])])
        found[tap] = [
            (lines, max(text_width(line, _NAME_SIZE) for line in lines)) for lines in forms
        ]
    return found


def _draw_header(axes, width, title, value_label, value_range, gaps):
    y = _MARGIN
    if title:
        draw_text(axes, _MARGIN, y, title, 10.5, ha="left", weight="bold")
        y += 18
    axes.add_patch(_probes([(_MARGIN + 4, y + 6)], 1))
    note = "linear probe: no gradient flows back"
    draw_text(axes, _MARGIN + 12, y, note, _NOTE_SIZE, SOFT, ha="left")
    if gaps:
        x = _MARGIN + 28 + text_width(note, _NOTE_SIZE)
        axes.add_patch(_box(x, y, 4, _UNMEASURED))
        draw_text(axes, x + 8, y, "not measured", _NOTE_SIZE, SOFT, ha="left")
    # From right to left: the bad end's value, the bar, the good end's, and what they are.
    x, length = width - _MARGIN, 110
    good, bad = (f"{end:.3g}" for end in value_range)
    draw_text(axes, x, y, bad, _NOTE_SIZE, ha="right")
    x -= text_width(bad, _NOTE_SIZE) + 4 + length
    for step in range(length):
        # Each colour reaches under the next, so that no viewer shows seams.
        color, extent = _SCALE((step + 0.5) / length), min(2, length - step)
        axes.add_patch(patches.Rectangle((x + step, y - 3.5), extent, 7, fc=color, lw=0))
    draw_text(axes, x - 4, y, good, _NOTE_SIZE, ha="right")
    x -= text_width(good, _NOTE_SIZE) + 12
    draw_text(axes, x, y, value_label, _NOTE_SIZE, ha="right")


def _draw_edges(axes, page, top):
    parts = [Path(np.add(path.vertices, (_MARGIN, top)), path.codes) for path in page.strokes()]
    if parts:
        path = Path.make_compound_path(*parts)
        axes.add_patch(patches.PathPatch(path, fc="none", ec=LINE, lw=0.9, zorder=1))


def _draw_tap(axes, page, top, tap, mark, color, gid):
    x, y = np.add(page.places[tap], (_MARGIN, top))
    box = _box(x, y, page.half, color)
    box.set_gid(gid)
    axes.add_patch(box)
    if tap in page.valued and not _missing(mark.value):
        turn = 90 if page.valued[tap] else 0
        base = y - page.above + 7
        draw_text(axes, x, base, _short_number(mark.value), _VALUE_SIZE, va="bottom", rotation=turn)
    if tap not in page.named:
        return
    lines, turned = page.named[tap]
    foot = y + page.half + 2.5
    if turned:
        draw_text(axes, x, foot, lines[0], _NAME_SIZE, SOFT, va="top", rotation=90)
        return
    for number, line in enumerate(lines):
        base = foot + 0.76 * _NAME_SIZE + NAME_HEIGHT * number
        draw_text(axes, x, base, line, _NAME_SIZE, SOFT, va="baseline")


def _box(x, y, half, color):
    return patches.FancyBboxPatch(
        (x - half, y - half),
        2 * half,
        2 * half,
        boxstyle=f"round,pad=0,rounding_size={0.4 * half}",
        fc=color,
        ec=INK if color != _UNMEASURED else LINE,
        lw=0.5,
        zorder=3,
    )


def _probes(places, scale):
    """Returns diodes that point upwards from the places: a triangle with a bar at its tip."""
    parts = []
    for x, y in places:
        left, right = x - 3 * scale, x + 3 * scale
        foot, tip, end = (y - scale * rise for rise in (3.2, 8.6, PROBE - 0.7))
        parts += [
            Path([(x, y), (x, foot)]),
            Path([(left, foot), (right, foot), (x, tip), (left, foot)], closed=True),
            Path([(left, tip), (right, tip)]),
            Path([(x, tip), (x, end)]),
        ]
    path = Path.make_compound_path(*parts) if parts else Path(np.empty((0, 2)))
    return patches.PathPatch(path, fc="white", ec=INK, lw=0.65 * scale, zorder=2)


def _draw_series(axes, number, count, points, at, floor):
    points = sorted((at[name], error, spread) for name, error, spread in points)
    x, error, spread = (np.array(column, float) for column in zip(*points, strict=True))
    color = _SERIES[number % len(_SERIES)]
    if count > len(_SERIES):  # more than one can tell apart: show their order instead
        color = matplotlib.colormaps["viridis"](0.92 * number / (count - 1))
    crowded = len(at) > 40
    axes.plot(
        x,
        np.maximum(error, floor),
        color=color,
        marker=_MARKERS[number % len(_MARKERS)],
        ms=2 if crowded else 4,
        lw=1.3,
        label="series",
        zorder=3,
        clip_on=False,
        gid=f"series-{number}",
    )
    known = np.isfinite(error + spread)
    low, high = np.maximum(error - spread, floor), error + spread
    if crowded and known.any():
        axes.fill_between(x, low, high, where=known, color=color, alpha=0.2, lw=0)
    elif known.any():
        bars = dict(fmt="none", ecolor=color, elinewidth=1, capsize=2)
        middle = np.maximum(error, floor)
        sides = np.stack([middle - low, np.maximum(high, floor) - middle])
        axes.errorbar(x[known], middle[known], sides[:, known], **bars)


def _style_axes(axes, taps, length):
    """Sets up the axes: the names of as many taps as fit on `length` points, and a light grid."""
    names = [shortened(tap) for tap in taps]
    spacing = length / len(taps)
    step, text = 1, {"ha": "center"}
    if max(text_width(name, 7.5) for name in names) > spacing - 4:
        angle = 45 if spacing > 13 else 90
        step = math.ceil(9.5 / spacing)
        text = {"rotation": angle, "ha": "right", "rotation_mode": "anchor"}
        text["va"] = "top" if angle == 45 else "center"
    # The first and the last and, as evenly as can be, what fits between them.
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
    axes.grid(axis="y", color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)


def _add_legend(axes, names, room):
    """Puts the legend above the axes if it takes two lines at most there, else beside them."""
    columns = int(room // (max(text_width(name, 7.5) for name in names) + 40))
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    if len(names) <= 2 * columns:
        rows = math.ceil(len(names) / columns)
        columns = math.ceil(len(names) / rows)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": columns}
    font = FontProperties(family=FONT, size=7.5)
    legend = axes.legend(prop=font, labelcolor=INK, frameon=False, borderaxespad=0, **place)
    # Set afterwards: matplotlib leaves out what is labelled with a leading underscore.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=clean(name), parse_math=False)


def _merged(lists):
    """Returns the names of all lists, each where it follows what it follows in its own list."""
    order = []
    for names in lists:
        place = 0
        for name in names:
            if name in order:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def _missing(value):
    return value is None or math.isnan(value)


def _short_number(value):
    if abs(value) < 0.9995:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.3g}"
