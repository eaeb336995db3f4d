"""Positions of all parts of a panel: taps, lines, values and names, in points."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.path import Path

from thesis_tf.plotting.network.layout import NetworkLayout, Place, fold

XY: TypeAlias = tuple[float, float]
# The lines of a name, and the width of the widest line.
Form: TypeAlias = tuple[Sequence[str], float]

# Sizes in points: a probe's symbol above a tap of full size, half a tap, a value, a line of a name.
PROBE, _HALF, VALUE_HEIGHT, NAME_HEIGHT = 12.5, 4.5, 8, 7
_ROOM, _HEIGHT = 900, 1000  # the maximum width and height of a figure
_LANE = 5  # the distance of parallel lines between two strips


class Placement:
    """Positions of all parts of a panel, in points from its upper left corner, y downwards.

    If all panels together would be too high, columns are narrower, and fewer labels have room. A
    label is kept if it doesn't overlap a tap, a probe, a line or an earlier label. Labels of forks
    and joins come first, since readers use them as landmarks.

    Attributes:
        places: {tap: (x, y)}, the centers of the taps.
        scale: the size of a tap and its probe, at most 1.
        half: half the width of a tap.
        above: the height of a tap with its probe and value above the tap's center.
        valued: {tap: whether the text is turned} for the taps whose values have room.
        named: {tap: (lines, whether the text is turned)} for the taps whose names have room.
        width: the width of the panel.
        height: the height of the panel.
    """

    def __init__(
        self, layout: NetworkLayout, labels: Mapping[str, Sequence[Form]], panels: int
    ) -> None:
        """Plans a panel.

        Args:
            layout: a `NetworkLayout`.
            labels: {tap: [(lines, width), ...]}, the forms of each name, the widest first.
            panels: the number of panels that share a figure.
        """
        self._layout, self._labels = layout, labels
        self._passing = layout.passing()
        for column in np.arange(16, 6.5, -0.5):
            strips = fold(layout, self._widths(column), _ROOM)
            self._place(column, strips)
            if self.height * panels <= _HEIGHT:
                break
        # Widen the columns as far as the strips allow.
        widest = max(forms[0][1] for forms in labels.values())
        most = max(30, widest + 8, min(60, 400 / layout.depth))
        for wider in np.arange(column, most, 0.5):
            widths = self._widths(wider)
            if max(widths[strip].sum() for strip in strips) <= _ROOM:
                column = wider
        self._place(column, strips)
        self._choose_labels()

    def strokes(self) -> list[Path]:
        """Returns the network's edges as matplotlib paths."""
        found = []
        for number, strip in enumerate(self._strips):
            for layer in strip:
                for i, (start, ends) in enumerate(self._passing[layer].items()):
                    begin = self._at(*start)
                    if layer == strip[0] and number:
                        turn = self._turn(number, start, ends, i)
                        found.append(turn)
                        x, y = np.asarray(turn.vertices)[-1]
                        begin = x, y
                    found += [self._bend(begin, self._at(*end)) for end in ends]
        return found

    def _widths(self, column: float) -> Any:
        """Returns the widths of the columns, which are larger where lines bend."""
        bends = [
            any(start[1] != end[1] for start, ends in passing.items() for end in ends)
            for passing in self._passing
        ]
        return np.where(bends, max(column, min(19, 2 * column)), float(column))

    def _place(self, column: float, strips: Sequence[range]) -> None:
        self._strips = strips
        self.scale = min(1.0, column / 12)
        self.half = _HALF * self.scale
        self.above = self.half + PROBE * self.scale + VALUE_HEIGHT
        self._lines: dict[str, Form] = {}
        for tap, forms in self._labels.items():
            fits = forms[0][1] <= column - 4 or column < 20
            self._lines[tap] = forms[0] if fits else forms[-1]
        most = max(len(lines) for lines, _ in self._lines.values())
        self._pitch = self.above + self.half + 5 + NAME_HEIGHT * most

        lanes = max((len(self._passing[strip[0]]) for strip in strips[1:]), default=0)
        self._left = 12 + _LANE * lanes if lanes else 0
        widths = self._widths(column)
        self._xs, self._tops = np.zeros(len(widths)), np.zeros(len(widths))
        self._rights: list[float] = []
        self._bottoms: list[float] = []
        top = 0.0
        for strip in strips:
            ends = self._left + np.cumsum(widths[strip])
            self._xs[strip] = ends - column / 2
            self._rights.append(ends[-1])
            upper, lower = self._extent(strip)
            self._tops[strip] = top - upper
            self._bottoms.append(top + lower - upper)
            top = self._bottoms[-1] + 6 + _LANE * lanes
        self.width = max(max(self._rights) + self._left, 400)
        self.height = self._bottoms[-1]
        self.places = {tap: self._at(*place) for tap, place in self._layout.places.items()}

    def _at(self, layer: int, row: float) -> XY:
        return float(self._xs[layer]), float(self._tops[layer] + row * self._pitch)

    def _extent(self, strip: range) -> XY:
        """Returns the smallest and the largest y in a strip whose row 0 is at y = 0."""
        uppers: list[float] = []
        lowers: list[float] = []
        for tap, (layer, row) in self._layout.places.items():
            if layer in strip:
                name = NAME_HEIGHT * len(self._lines[tap][0])
                uppers.append(row * self._pitch - self.above)
                lowers.append(row * self._pitch + self.half + 3 + name)
        for route in self._layout.routes.values():
            heights = [row * self._pitch for layer, row in route if layer in strip]
            uppers += [height - 4 for height in heights]
            lowers += [height + 4 for height in heights]
        return min(uppers), max(lowers)

    def _turn(self, number: int, start: Place, ends: Sequence[Place], i: int) -> Path:
        """Returns the line from the end of one strip to the beginning of the next.

        Line i = 0, the topmost, extends farthest to the right at its beginning and least to the
        left at its end, so the lines keep their order and don't cross.
        """
        count = len(self._passing[self._strips[number][0]])
        x, y = self._at(*start)
        entry = self._at(*min(ends, key=lambda end: abs(end[1] - start[1])))[1]
        right = self._rights[number - 1] + _LANE * (count - i)
        lane = self._bottoms[number - 1] + 3 + _LANE * (count - i - 1)
        left = self._left - 10 - _LANE * i
        corners = [(right, y), (right, lane), (left, lane), (left, entry)]
        return _rounded([(x, y), *corners, (self._left - 6, entry)], 4)

    def _bend(self, start: XY, end: XY) -> Path:
        """Returns a line that is horizontal at both ends."""
        (x0, y0), (x1, y1) = start, end
        if y0 == y1:
            return Path([start, end])
        a, b = x0 + self.half, x1 - self.half
        middle = (a + b) / 2
        points = [start, (a, y0), (middle, y0), (middle, y1), (b, y1), end]
        return Path(points, [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 3, Path.LINETO])

    def _choose_labels(self) -> None:
        reach = self.half + PROBE * self.scale
        boxes = [
            (x - self.half, y - reach, x + self.half, y + self.half)
            for x, y in self.places.values()
        ]
        for stroke in self.strokes():
            boxes += [(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in _sampled(stroke)]
        taken = np.array(boxes)

        def claim(left: float, top: float, right: float, bottom: float) -> bool:
            nonlocal taken
            across = (taken[:, 0] < right) & (taken[:, 2] > left)
            if np.any(across & (taken[:, 1] < bottom) & (taken[:, 3] > top)):
                return False
            lowest = self._bottoms[np.searchsorted(self._bottoms, top)]
            if left < -12 or right > self.width + 12 or top < -0.5 or bottom > lowest:
                return False
            taken = np.vstack([taken, (left, top, right, bottom)])
            return True

        degrees = collections.Counter(itertools.chain.from_iterable(self._layout.routes))
        landmarks = {tap for tap in self.places if degrees[tap] > 2}
        order = sorted(self.places, key=lambda tap: tap not in landmarks)
        self.valued: dict[str, bool] = {}
        self.named: dict[str, tuple[Sequence[str], bool]] = {}
        for tap in order:
            x, top = self.places[tap][0], self.places[tap][1] - self.above
            if claim(x - 7.5, top, x + 7.5, top + VALUE_HEIGHT - 1):
                self.valued[tap] = False
            elif tap in landmarks and claim(x - 4, top - 8, x + 4, top + VALUE_HEIGHT - 1):
                self.valued[tap] = True
        for tap in order:
            x, top = self.places[tap][0], self.places[tap][1] + self.half + 1.5
            lines, width = self._lines[tap]
            half, height = width / 2 + 1.5, NAME_HEIGHT * len(lines)
            if claim(x - half, top, x + half, top + height):
                self.named[tap] = lines, False
            elif tap in landmarks:
                lines, width = self._labels[tap][0]
                if claim(x - 4, top, x + 4, top + width + 2):
                    self.named[tap] = lines, True


def _rounded(corners: Sequence[XY], radius: float) -> Path:
    """Returns a path through corners that are rounded with at most `radius`."""
    points: list[Any] = [corners[0]]
    codes = [Path.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        for end in (before, after):
            fraction = radius / max(math.dist(end, corner), radius)
            points.append(tuple(np.add(corner, np.subtract(end, corner) * fraction)))
        points.insert(-1, corner)
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, corners[-1]], [*codes, Path.LINETO])


def _sampled(path: Path) -> Iterator[Any]:
    """Yields positions along a path with distances of at most 3 points."""
    for line in path.to_polygons(closed_only=False):
        for start, end in itertools.pairwise(np.asarray(line)):
            yield from np.linspace(start, end, math.ceil(math.dist(start, end) / 3) + 1)
