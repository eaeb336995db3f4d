"""Where the taps of a network go in a picture of it: a layered layout of a DAG.

The steps are those of Sugiyama, Tagawa and Toda (1981): longest-path layers, long edges cut up by
a dummy point in each layer that they pass, barycentre sweeps against crossings, then heights. The
heights are a linear program, as in Gansner et al. (1993), over *threads*: unbranched runs of
points, which so come out exactly straight. Nothing is random.
"""

import bisect
import collections
import graphlib
import itertools
import math
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path
from scipy import optimize, sparse

from thesis_tf import _checks

# What two neighbours of a layer need between them, in rows. A tap's probe stands above it, so a
# line that passes above a tap keeps further off than one that passes below.
_TAP_TAP, _LINE_TAP, _TAP_LINE, _LINE_LINE = 1.0, 0.75, 0.5, 0.3
_SWEEPS = 12


class Layout(NamedTuple):
    """A layered layout.

    Attributes:
        places: {tap: (layer, row)}; layers are integers from 0, rows floats from 0 downwards, and
            taps of one layer are at least one row apart.
        routes: {(parent, child): [(layer, row), ...]}; one point a layer, from the parent's place
            to the child's.
    """

    places: dict
    routes: dict

    @property
    def depth(self):
        """The number of layers."""
        return 1 + max(layer for layer, _ in self.places.values())

    def segments(self):
        """Returns the distinct ((layer, row), (layer + 1, row)) that the routes consist of."""
        pairs = (pair for route in self.routes.values() for pair in itertools.pairwise(route))
        return list(dict.fromkeys(pairs))

    def passing(self):
        """Returns a list by layer of {start: [end, ...]} of the segments that end there."""
        found = [{} for _ in range(self.depth)]
        for start, end in sorted(self.segments()):
            found[end[0]].setdefault(start, []).append(end)
        return found


def arrange(taps, edges):
    """Lays out a DAG with its depth from left to right.

    A tap's layer is the length of the longest path to it, but for an input that is used late,
    which stands just before its use. Separate components stand under one another; taps without
    edges share one row below them all, in the order given.

    Args:
        taps: names, at least one.
        edges: (parent, child) pairs of these names; repeated ones count once.

    Returns:
        A Layout.

    Raises:
        ValueError: there is no tap, an edge names an unknown tap, or the edges form a cycle.
    """
    taps = list(dict.fromkeys(taps))
    if not taps:
        raise _checks.invalid("`taps`", "at least one name", "none")
    parents, children = _neighbours(taps, edges)
    places, routes, top = {}, {}, 0.0
    for component in _components(taps, parents, children):
        rows, parts = _arrange_connected(component, parents, children)
        lowest = min(row for _, row in rows.values())
        rows = {point: (layer, row - lowest + top) for point, (layer, row) in rows.items()}
        places.update({tap: rows[tap] for tap in component})
        routes.update({edge: [rows[point] for point in part] for edge, part in parts.items()})
        top = 1 + max(row for _, row in rows.values())
    alone = [tap for tap in taps if tap not in places]
    places.update({tap: (layer, top) for layer, tap in enumerate(alone)})
    return Layout({tap: places[tap] for tap in taps}, routes)


def fold(layout, widths, room):
    """Cuts a layout into strips, to be drawn under one another.

    There are as few strips as `room` allows; they are about equally long and cut where few lines
    pass.

    Args:
        layout: a Layout.
        widths: the width of each layer's column.
        room: the greatest width of a strip; a column that is wider gets a strip of its own.

    Returns:
        A list of ranges of layers.
    """
    passing = list(map(len, layout.passing()))
    ends = np.concatenate([[0], np.cumsum(widths)])
    best = {0: (0, 0.0, None)}
    for stop in range(1, layout.depth + 1):
        choices = []
        for start in reversed(range(stop)):
            left = 1 - (ends[stop] - ends[start]) / room
            if left < 0 and choices:
                break
            strips, cost, _ = best[start]
            choices.append((strips + 1, cost + left**2 + 0.05 * passing[start], start))
        best[stop] = min(choices)
    strips, stop = [], layout.depth
    while stop:
        start = best[stop][2]
        strips.append(range(start, stop))
        stop = start
    return strips[::-1]


def _neighbours(taps, edges):
    parents = {tap: [] for tap in taps}
    children = {tap: [] for tap in taps}
    for parent, child in dict.fromkeys(map(tuple, edges)):
        for end in (parent, child):
            if end not in parents:
                raise _checks.invalid(
                    "`edges`", "pairs of taps", repr(end), _checks.nearest(str(end), parents)
                )
        parents[child].append(parent)
        children[parent].append(child)
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise _checks.invalid(
            "`edges`", "free of cycles", f"the cycle {cycle}", "Leave out the edge that closes it."
        ) from None
    return parents, children


def _components(taps, parents, children):
    """Yields the connected components of more than one tap, each in the order of `taps`."""
    seen = set()
    for tap in taps:
        if tap in seen:
            continue
        seen.add(tap)
        found, waiting = {tap}, [tap]
        while waiting:
            here = waiting.pop()
            new = set(parents[here] + children[here]) - found
            found |= new
            waiting += new
        seen |= found
        if len(found) > 1:
            yield [tap for tap in taps if tap in found]


def _arrange_connected(taps, parents, children):
    """Returns {point: (layer, row)} and {edge: [point, ...]} of one component.

    A point is a tap's name or, where a long edge passes a layer, a tuple (lane, layer).
    """
    depths = _depths(taps, parents, children)
    routes, skips = {}, set()
    below = _descendants(taps, parents, children)
    for parent in taps:
        for child in children[parent]:
            # A skip connection has a longer path beside it; it makes way for that path, and all
            # that leave one tap share a lane, so that dense blocks stay legible.
            skip = any(child in below[other] for other in children[parent])
            lane = (parent,) if skip else (parent, child)
            passed = [(lane, layer) for layer in range(depths[parent] + 1, depths[child])]
            routes[parent, child] = route = [parent, *passed, child]
            if skip:
                skips |= {(route[0], route[1]), (route[-2], route[-1])}
    links = list(dict.fromkeys(p for route in routes.values() for p in itertools.pairwise(route)))
    depths.update({p: p[1] for route in routes.values() for p in route[1:-1]})
    layers = _ordered(depths, links)
    rows = _rows(layers, links, skips)
    return {point: (depths[point], rows[point]) for point in depths}, routes


def _depths(taps, parents, children):
    order = list(graphlib.TopologicalSorter({tap: parents[tap] for tap in taps}).static_order())
    depths, stalk = {}, set()
    for tap in order:
        depths[tap] = 1 + max((depths[parent] for parent in parents[tap]), default=-1)
        # An unbranched run from an input can slide towards its use and nothing gets longer.
        if not parents[tap] or (
            len(parents[tap]) == len(children[tap]) == len(children[parents[tap][0]]) == 1
            and parents[tap][0] in stalk
        ):
            stalk.add(tap)
    for tap in reversed(order):
        if tap in stalk and children[tap]:
            depths[tap] = min(depths[child] for child in children[tap]) - 1
    return {tap: depths[tap] for tap in taps}


def _descendants(taps, parents, children):
    """Returns {tap: the set of taps below it}."""
    order = graphlib.TopologicalSorter({tap: parents[tap] for tap in taps}).static_order()
    below = {}
    for tap in reversed(list(order)):
        below[tap] = set(children[tap]).union(*(below[child] for child in children[tap]))
    return below


def _ordered(depths, links):
    """Returns the layers, lists of points from top to bottom, with few crossings of the links."""
    before, after = collections.defaultdict(list), collections.defaultdict(list)
    for start, end in links:
        after[start].append(end)
        before[end].append(start)
    for ends in after.values():
        # Lines start out above taps: below a tap they would be in the way of its name.
        ends.sort(key=lambda point: isinstance(point, str))
    layers = [[] for _ in range(1 + max(depths.values()))]
    # Depth first from the inputs: branches start out side by side, not interleaved.
    seen, waiting = set(), [point for point in reversed(depths) if not before[point]]
    while waiting:
        point = waiting.pop()
        if point not in seen:
            seen.add(point)
            layers[depths[point]].append(point)
            waiting += reversed(after[point])
    best, fewest = [list(layer) for layer in layers], _crossings(layers, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forwards = sweep % 2 == 0
        steps = range(1, len(layers)) if forwards else range(len(layers) - 2, -1, -1)
        for depth in steps:
            fixed = layers[depth - 1 if forwards else depth + 1]
            at = {point: place for place, point in enumerate(fixed)}
            near = before if forwards else after
            centre = {
                point: np.mean([at[other] for other in near[point]]) if near[point] else place
                for place, point in enumerate(layers[depth])
            }
            layers[depth].sort(key=centre.get)
        crossings = _crossings(layers, after)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _crossings(layers, after):
    """Counts the pairs of links that cross: the inversions of their ends, layer by layer."""
    total = 0
    for layer, following in itertools.pairwise(layers):
        at = {point: place for place, point in enumerate(following)}
        passed = []
        for point in layer:
            ends = sorted(at[end] for end in after[point])
            total += sum(len(passed) - bisect.bisect_right(passed, end) for end in ends)
            for end in ends:
                bisect.insort(passed, end)
    return total


def _rows(layers, links, skips):
    """Returns {point: row} for layers whose order is settled.

    One variable a thread; the costs are the distances of a point from the mean of its parents and
    from the mean of its children, which centres forks and joins, and, with less weight, the
    length of each link, which packs the branches. Skip connections hardly pull.
    """
    threads = _threads(layers, links, skips)
    count = 1 + max(threads.values())
    costs = []  # (weight, {thread: coefficient})
    for near in (0, 1):
        fans = collections.defaultdict(list)
        for link in links:
            if link not in skips:
                fans[link[near]].append(link[1 - near])
        for point, others in fans.items():
            share = collections.Counter({threads[point]: 1.0})
            for other in others:
                share[threads[other]] -= 1 / len(others)
            costs.append((1.0, share))
    for start, end in links:
        share = collections.Counter({threads[start]: 1.0})
        share[threads[end]] -= 1
        costs.append((0.02 if (start, end) in skips else 0.1, share))
    costs = [(weight, share) for weight, share in costs if any(share.values())]
    gaps = {}
    for layer in layers:
        for upper, lower in itertools.pairwise(layer):
            pair = threads[upper], threads[lower]
            gaps[pair] = max(gaps.get(pair, 0), _gap(upper, lower))

    rows, columns, values = [], [], []
    bounds = np.zeros(2 * len(costs) + len(gaps))
    for index, (_, share) in enumerate(costs):
        # |share . y| <= e as share . y - e <= 0 and -share . y - e <= 0.
        for row, sign in ((2 * index, 1), (2 * index + 1, -1)):
            for thread, coefficient in share.items():
                rows.append(row), columns.append(thread), values.append(sign * coefficient)
            rows.append(row), columns.append(count + index), values.append(-1)
    for row, ((upper, lower), gap) in enumerate(gaps.items(), start=2 * len(costs)):
        rows += [row, row]
        columns += [upper, lower]
        values += [1, -1]
        bounds[row] = -gap
    weights = np.r_[np.zeros(count), [weight for weight, _ in costs]]
    table = sparse.csr_array((values, (rows, columns)), shape=(len(bounds), len(weights)))
    solution = optimize.linprog(weights, table, bounds)
    assert solution.status == 0, solution.message
    return {point: round(float(solution.x[thread]), 6) for point, thread in threads.items()}


def _gap(upper, lower):
    if isinstance(upper, tuple):
        return _LINE_LINE if isinstance(lower, tuple) else _LINE_TAP
    return _TAP_LINE if isinstance(lower, tuple) else _TAP_TAP


def _threads(layers, links, skips):
    """Returns {point: index of its thread}.

    A thread goes on while there is one way on and one way back, skip connections left aside. Of
    two such links that cross only one can be level: lines before taps, for their length.
    """
    ahead = collections.Counter(start for start, end in links if (start, end) not in skips)
    behind = collections.Counter(end for start, end in links if (start, end) not in skips)
    level = [
        (start, end)
        for start, end in links
        if (start, end) not in skips and ahead[start] == behind[end] == 1
    ]
    level.sort(key=lambda link: -sum(isinstance(point, tuple) for point in link))
    place = {
        point: (depth, i) for depth, layer in enumerate(layers) for i, point in enumerate(layer)
    }
    kept = collections.defaultdict(list)
    follows = {}
    for start, end in level:
        depth, a = place[start]
        b = place[end][1]
        if all((a - other_a) * (b - other_b) > 0 for other_a, other_b in kept[depth]):
            kept[depth].append((a, b))
            follows[end] = start
    threads, fresh = {}, itertools.count()
    for layer in layers:
        for point in layer:
            threads[point] = threads[follows[point]] if point in follows else next(fresh)
    return threads


# In points: the symbol of a probe over a tap of full size, half a tap, a value, a line of a name.
PROBE, _HALF, VALUE_HEIGHT, NAME_HEIGHT = 12.5, 4.5, 8, 7
_ROOM, _HEIGHT = 900, 1000  # of a page
_LANE = 5  # between lines on their way from one strip to the next


class Page:
    """Where everything of a panel goes, in points from its upper left corner, y downwards.

    Columns are narrowed, and labels so thinned out, when the panels would get too high together.
    A label stays if it overlaps no tap, no probe, no line and no label before it; forks and joins
    come first, since they are the landmarks by which a reader finds the rest.

    Attributes:
        places: {tap: (x, y)} of the taps' centres.
        scale: the size of a tap and its probe, at most 1.
        half: half the width of a tap.
        above: how far a tap with its probe and value reaches above its centre.
        valued: {tap: turned} of the taps whose values have room, level or turned.
        named: {tap: (lines, turned)} of the taps whose names have room.
        width: of the panel.
        height: of the panel.
    """

    def __init__(self, layout, labels, panels):
        """Plans a page.

        Args:
            layout: a Layout.
            labels: {tap: [(lines, width), ...]}, the forms of each name, the widest first.
            panels: the number of panels that are to share the page.
        """
        self._layout, self._labels = layout, labels
        self._passing = layout.passing()
        for column in np.arange(16, 6.5, -0.5):
            strips = fold(layout, self._widths(column), _ROOM)
            self._place(column, strips)
            if self.height * panels <= _HEIGHT:
                break
        # The columns may take what room the strips leave.
        widest = max(forms[0][1] for forms in labels.values())
        most = max(30, widest + 8, min(60, 400 / layout.depth))
        for wider in np.arange(column, most, 0.5):
            widths = self._widths(wider)
            if max(widths[strip].sum() for strip in strips) <= _ROOM:
                column = wider
        self._place(column, strips)
        self._choose_labels()

    def strokes(self):
        """Returns the network's edges as matplotlib paths."""
        found = []
        for number, strip in enumerate(self._strips):
            for layer in strip:
                for i, (start, ends) in enumerate(self._passing[layer].items()):
                    begin = self._at(*start)
                    if layer == strip[0] and number:
                        turn = self._turn(number, start, ends, i)
                        found.append(turn)
                        begin = tuple(turn.vertices[-1])
                    found += [self._bend(begin, self._at(*end)) for end in ends]
        return found

    def _widths(self, column):
        """Returns the columns' widths: lines that bend take some room."""
        bends = [
            any(start[1] != end[1] for start, ends in passing.items() for end in ends)
            for passing in self._passing
        ]
        return np.where(bends, max(column, min(19, 2 * column)), float(column))

    def _place(self, column, strips):
        self._strips = strips
        self.scale = min(1.0, column / 12)
        self.half = _HALF * self.scale
        self.above = self.half + PROBE * self.scale + VALUE_HEIGHT
        self._lines = {}
        for tap, forms in self._labels.items():
            fits = forms[0][1] <= column - 4 or column < 20
            self._lines[tap] = forms[0] if fits else forms[-1]
        most = max(len(lines) for lines, _ in self._lines.values())
        self._pitch = self.above + self.half + 5 + NAME_HEIGHT * most

        lanes = max((len(self._passing[strip[0]]) for strip in strips[1:]), default=0)
        self._left = 12 + _LANE * lanes if lanes else 0
        widths = self._widths(column)
        self._xs, self._tops = np.zeros(len(widths)), np.zeros(len(widths))
        self._rights, self._bottoms, top = [], [], 0.0
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

    def _at(self, layer, row):
        return float(self._xs[layer]), float(self._tops[layer] + row * self._pitch)

    def _extent(self, strip):
        """Returns the least and the greatest y in a strip whose row 0 is at y 0."""
        uppers, lowers = [], []
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

    def _turn(self, number, start, ends, i):
        """Returns the line from the end of one strip to the beginning of the next.

        The topmost of a turn's lines, i = 0, goes furthest out at the right and stays furthest in
        at the left: so they keep their order and don't cross.
        """
        count = len(self._passing[self._strips[number][0]])
        x, y = self._at(*start)
        entry = self._at(*min(ends, key=lambda end: abs(end[1] - start[1])))[1]
        right = self._rights[number - 1] + _LANE * (count - i)
        lane = self._bottoms[number - 1] + 3 + _LANE * (count - i - 1)
        left = self._left - 10 - _LANE * i
        corners = [(right, y), (right, lane), (left, lane), (left, entry)]
        return _rounded([(x, y), *corners, (self._left - 6, entry)], 4)

    def _bend(self, start, end):
        """Returns a line that leaves level and arrives level."""
        (x0, y0), (x1, y1) = start, end
        if y0 == y1:
            return Path([start, end])
        a, b = x0 + self.half, x1 - self.half
        middle = (a + b) / 2
        points = [start, (a, y0), (middle, y0), (middle, y1), (b, y1), end]
        return Path(points, [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 3, Path.LINETO])

    def _choose_labels(self):
        reach = self.half + PROBE * self.scale
        taken = [
            (x - self.half, y - reach, x + self.half, y + self.half)
            for x, y in self.places.values()
        ]
        for stroke in self.strokes():
            taken += [(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in _sampled(stroke)]
        taken = np.array(taken)

        def claim(left, top, right, bottom):
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
        self.valued, self.named = {}, {}
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


def _rounded(corners, radius):
    """Returns a path through corners, each cut off at `radius` at most."""
    points, codes = [corners[0]], [Path.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        for end in (before, after):
            share = radius / max(math.dist(end, corner), radius)
            points.append(tuple(np.add(corner, np.subtract(end, corner) * share)))
        points.insert(-1, corner)
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, corners[-1]], [*codes, Path.LINETO])


def _sampled(path):
    """Yields places along a path that are at most 3 points apart."""
    for line in path.to_polygons(closed_only=False):
        for start, end in itertools.pairwise(line):
            yield from np.linspace(start, end, math.ceil(math.dist(start, end) / 3) + 1)
