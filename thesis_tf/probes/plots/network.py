"""The network, colored by its probes' errors: figures 9.5, 9.7 and 9.9.

Like `curves`, this module takes plain numbers and names and writes a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colors, patches
from matplotlib import path as paths
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.plotting.network.layout import arrange
from thesis_tf.plotting.network.placement import NAME_HEIGHT, PROBE, XY, Form, Placement
from thesis_tf.plotting.style import (
    BLANK,
    GOOD_TO_BAD,
    INK,
    LINE,
    SOFT,
    checked_path,
    draw_text,
    save,
    shortened,
    text_width,
)
from thesis_tf.probes.plots.series import merged, missing

_VALUE_SIZE, _NAME_SIZE, _NOTE_SIZE = 6.4, 6.0, 7.0
_MARGIN = 16
_LINE = 18  # the height of a line of the title

_SCALE = colors.LinearSegmentedColormap.from_list("probe_error", GOOD_TO_BAD)


class Mark(NamedTuple):
    """The error of a probe at one tap.

    Attributes:
        value: the error; None or NaN if it was not measured.
        tooltip: text that an SVG shows for the tap, in addition to its name and value.
    """

    value: float | None
    tooltip: str = ""


def error_color(value: float | None, value_range: Sequence[float], *, log: bool = False) -> str:
    """Returns the color of a value as "#rrggbb": blue and green are good, red is bad.

    Args:
        value: a number, or None or NaN for a tap that was not measured, which is gray.
        value_range: (good, bad), the values at the ends of the scale; values beyond an end have
            its color.
        log: whether the color scale is logarithmic.
    """
    if value is None or missing(value):
        return BLANK
    ends = np.asarray(value_range, float)
    clipped = np.clip(value, *sorted(ends))
    good, bad, at = np.log([*ends, clipped]) if log else (*ends, clipped)
    return colors.to_hex(_SCALE(float((at - good) / (bad - good))))


def draw_network(
    panels: Mapping[str, Mapping[str, Mark]],
    edges: Iterable[tuple[str, str]],
    path: Path,
    *,
    value_range: Sequence[float],
    log: bool = False,
    value_label: str = "test error",
    title: str | None = None,
) -> None:
    """Draws a network with each tap in the color of its probe's error (figures 9.5, 9.7, 9.9).

    Depth increases from left to right; a deep network continues in another strip below. Each
    measured tap has a probe behind a diode symbol, since no gradient flows back through it. Names
    and values for which there is no room are omitted; an SVG has all of them as tooltips.

    Args:
        panels: {panel title: {tap: Mark}}; the panels, for example checkpoints, are drawn below
            one another with one color scale. A tap that a panel lacks counts as not measured.
        edges: (parent, child) pairs of taps, a DAG; a tap may also have no edge.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        value_range: (good, bad), the values at the ends of the color scale, for example
            (0, error at chance).
        log: whether the color scale is logarithmic; both ends must then be positive.
        value_label: the name of the values.
        title: a heading.

    Raises:
        ValueError: there is no tap, an edge has an unknown tap, the edges form a cycle,
            `value_range` isn't two different finite numbers (positive for a logarithmic scale), or
            the suffix is invalid.
    """
    path = checked_path(path)
    ends = np.asarray(value_range, float)
    sound = ends.shape == (2,) and np.isfinite(ends).all() and ends[0] != ends[1]
    if not sound or (log and ends.min() <= 0):
        kind = "finite positive" if log else "finite"
        expected = f"two different {kind} numbers (good, bad)"
        raise checks.invalid("`value_range`", expected, repr(value_range))
    panels = {str(name): marks for name, marks in panels.items()}
    taps = merged(panels.values())
    if not taps:
        raise checks.invalid("`panels`", "marks of at least one tap", repr(panels))
    placement = Placement(arrange(taps, edges), _labels(taps), len(panels))

    lines = title.split("\n") if title else []
    head = 22 + _LINE * len(lines)
    step = placement.height + (28 if any(panels) else 14)
    scale_label = f"{value_label}, logarithmic" if log else value_label
    # Wide enough that the two sides of the header and the title don't overlap.
    least = [1.2 * text_width(line, 10.5) + 32 for line in lines]
    least.append(425 + text_width(scale_label, _NOTE_SIZE))
    width, height = max(placement.width + 2 * _MARGIN, *least), head + step * len(panels) + 10
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    marks = {name: {tap: panels[name].get(tap, Mark(None)) for tap in taps} for name in panels}
    unmeasured = any(missing(mark.value) for panel in marks.values() for mark in panel.values())
    _draw_header(axes, width, lines, scale_label, value_range, unmeasured)
    tooltips = {}
    for number, (name, panel) in enumerate(marks.items()):
        top = head + (number + 1) * step - placement.height
        draw_text(axes, _MARGIN, top - 12, name, 8.5, ha="left", weight="bold")
        _draw_edges(axes, placement, top)
        for index, (tap, mark) in enumerate(panel.items()):
            gid = f"tap-{number}-{index}"
            _draw_tap(
                axes, placement, top, tap, mark, error_color(mark.value, value_range, log=log), gid
            )
            shown = "not measured"
            if mark.value is not None and not missing(mark.value):
                shown = f"{value_label} {mark.value:.4g}"
            tooltips[gid] = "\n".join(filter(None, [tap, shown, mark.tooltip]))
        measured = [placement.places[tap] for tap in taps if not missing(panel[tap].value)]
        feet = [(x + _MARGIN, y + top - placement.half) for x, y in measured]
        axes.add_patch(_probes(feet, placement.scale))
    save(figure, path, tooltips=tooltips)


def _labels(taps: Iterable[str]) -> dict[str, list[Form]]:
    """Returns {tap: [(lines of its name, their width), ...]}, in one and possibly in two lines."""
    found: dict[str, list[Form]] = {}
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


def _draw_header(
    axes: Axes,
    width: float,
    title: Sequence[str],
    value_label: str,
    value_range: Sequence[float],
    unmeasured: bool,
) -> None:
    x: float
    y = _MARGIN
    for line in title:
        draw_text(axes, _MARGIN, y, line, 10.5, ha="left", weight="bold")
        y += _LINE
    axes.add_patch(_probes([(_MARGIN + 4, y + 6)], 1))
    note = "linear probe: no gradient flows back"
    draw_text(axes, _MARGIN + 12, y, note, _NOTE_SIZE, color=SOFT, ha="left")
    if unmeasured:
        x = _MARGIN + 28 + text_width(note, _NOTE_SIZE)
        axes.add_patch(_box(x, y, 4, BLANK))
        draw_text(axes, x + 8, y, "not measured", _NOTE_SIZE, color=SOFT, ha="left")
    # From right to left: the value of the bad end, the bar, the value of the good end, the label.
    x, length = width - _MARGIN, 110
    good, bad = (f"{end:.3g}" for end in value_range)
    draw_text(axes, x, y, bad, _NOTE_SIZE, ha="right")
    x -= text_width(bad, _NOTE_SIZE) + 4 + length
    for step in range(length):
        # Each color extends below the next one, so that viewers show no seams.
        color, extent = _SCALE((step + 0.5) / length), min(2, length - step)
        axes.add_patch(patches.Rectangle((x + step, y - 3.5), extent, 7, fc=color, lw=0))
    draw_text(axes, x - 4, y, good, _NOTE_SIZE, ha="right")
    x -= text_width(good, _NOTE_SIZE) + 12
    draw_text(axes, x, y, value_label, _NOTE_SIZE, ha="right")


def _draw_edges(axes: Axes, placement: Placement, top: float) -> None:
    parts = [
        paths.Path(np.add(path.vertices, (_MARGIN, top)), path.codes)
        for path in placement.strokes()
    ]
    if parts:
        path = paths.Path.make_compound_path(*parts)
        axes.add_patch(patches.PathPatch(path, fc="none", ec=LINE, lw=0.9, zorder=1))


def _draw_tap(
    axes: Axes, placement: Placement, top: float, tap: str, mark: Mark, color: str, gid: str
) -> None:
    x, y = np.add(placement.places[tap], (_MARGIN, top))
    box = _box(x, y, placement.half, color)
    box.set_gid(gid)
    axes.add_patch(box)
    if tap in placement.valued and mark.value is not None and not missing(mark.value):
        turn = 90 if placement.valued[tap] else 0
        base = y - placement.above + 7
        draw_text(axes, x, base, _short_number(mark.value), _VALUE_SIZE, va="bottom", rotation=turn)
    if tap not in placement.named:
        return
    lines, turned = placement.named[tap]
    foot = y + placement.half + 2.5
    if turned:
        draw_text(axes, x, foot, lines[0], _NAME_SIZE, color=SOFT, va="top", rotation=90)
        return
    for number, line in enumerate(lines):
        base = foot + 0.76 * _NAME_SIZE + NAME_HEIGHT * number
        draw_text(axes, x, base, line, _NAME_SIZE, color=SOFT, va="baseline")


def _box(x: float, y: float, half: float, color: str) -> patches.FancyBboxPatch:
    return patches.FancyBboxPatch(
        (x - half, y - half),
        2 * half,
        2 * half,
        boxstyle=f"round,pad=0,rounding_size={0.4 * half}",
        fc=color,
        ec=INK if color != BLANK else LINE,
        lw=0.5,
        zorder=3,
    )


def _probes(places: Sequence[XY], scale: float) -> patches.PathPatch:
    """Returns diodes that point upward from the places: a triangle with a bar at its tip."""
    parts = []
    for x, y in places:
        left, right = x - 3 * scale, x + 3 * scale
        foot, tip, end = (y - scale * rise for rise in (3.2, 8.6, PROBE - 0.7))
        parts += [
            paths.Path([(x, y), (x, foot)]),
            paths.Path([(left, foot), (right, foot), (x, tip), (left, foot)], closed=True),
            paths.Path([(left, tip), (right, tip)]),
            paths.Path([(x, tip), (x, end)]),
        ]
    path = paths.Path(np.empty((0, 2)))
    if parts:
        path = paths.Path.make_compound_path(*parts)
    return patches.PathPatch(path, fc="white", ec=INK, lw=0.65 * scale, zorder=2)


def _short_number(value: float) -> str:
    if abs(value) < 0.9995:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.3g}"
