"""Positions of the taps in a diagram of a network: a layered layout of a DAG.

The steps are those of Sugiyama, Tagawa and Toda (1981): assign layers by longest paths, split long
edges by a dummy point in each layer that they pass, reduce crossings by barycenter sweeps, and
choose heights. The heights solve a linear program, as in Gansner et al. (1993), over *threads*:
unbranched runs of points, which are therefore exactly straight. Nothing is random.
"""

from __future__ import annotations

import bisect
import collections
import graphlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import optimize, sparse

from thesis_tf._core import checks

Place: TypeAlias = tuple[int, float]  # layer and row
Edge: TypeAlias = tuple[str, str]
# A tap, or (lane, layer) for the point at which a long edge passes a layer.
Point: TypeAlias = str | tuple[tuple[str, ...], int]
Link: TypeAlias = tuple[Point, Point]
Links: TypeAlias = Mapping[str, list[str]]

# The space that two neighbors in a layer need between them, in rows. A tap's probe is above it, so
# a line above a tap keeps a larger distance than a line below it.
_TAP_TAP, _LINE_TAP, _TAP_LINE, _LINE_LINE = 1.0, 0.75, 0.5, 0.3
_SWEEPS = 12


class NetworkLayout(NamedTuple):
    """A layered layout.

    Attributes:
        places: {tap: (layer, row)}; layers are integers from 0, rows floats from 0 downwards, and
            taps of one layer are at least one row apart.
        routes: {(parent, child): [(layer, row), ...]}; one point per layer, from the parent's place
            to the child's.
    """

    places: dict[str, Place]
    routes: dict[Edge, list[Place]]

    @property
    def depth(self) -> int:
        """The number of layers."""
        return 1 + max(layer for layer, _ in self.places.values())

    def segments(self) -> list[tuple[Place, Place]]:
        """Returns the distinct ((layer, row), (layer + 1, row)) that the routes consist of."""
        pairs = (pair for route in self.routes.values() for pair in itertools.pairwise(route))
        return list(dict.fromkeys(pairs))

    def passing(self) -> list[dict[Place, list[Place]]]:
        """Returns a list by layer of {start: [end, ...]} of the segments that end there."""
        found: list[dict[Place, list[Place]]] = [{} for _ in range(self.depth)]
        for start, end in sorted(self.segments()):
            found[end[0]].setdefault(start, []).append(end)
        return found


def arrange(taps: Iterable[str], edges: Iterable[Edge]) -> NetworkLayout:
    """Lays out a DAG with its depth from left to right.

    A tap's layer is the length of the longest path to it; but an input that is used late is placed
    just before its use. Components are placed below one another; taps without edges share one row
    below all components, in the given order.

    Args:
        taps: names, at least one.
        edges: (parent, child) pairs of these names; repeated pairs count once.

    Returns:
        A `NetworkLayout`.

    Raises:
        ValueError: there is no tap, an edge names an unknown tap, or the edges form a cycle.
    """
    taps = list(dict.fromkeys(taps))
    if not taps:
        raise checks.invalid("`taps`", "at least one name", "none")
    parents, children = _neighbors(taps, edges)
    places: dict[str, Place] = {}
    routes: dict[Edge, list[Place]] = {}
    top = 0.0
    for component in _components(taps, parents, children):
        rows, parts = _arrange_connected(component, parents, children)
        lowest = min(row for _, row in rows.values())
        rows = {point: (layer, row - lowest + top) for point, (layer, row) in rows.items()}
        places.update({tap: rows[tap] for tap in component})
        routes.update({edge: [rows[point] for point in part] for edge, part in parts.items()})
        top = 1 + max(row for _, row in rows.values())
    alone = [tap for tap in taps if tap not in places]
    places.update({tap: (layer, top) for layer, tap in enumerate(alone)})
    return NetworkLayout({tap: places[tap] for tap in taps}, routes)


def fold(layout: NetworkLayout, widths: Any, room: float) -> list[range]:
    """Cuts a layout into strips, to be drawn below one another.

    There are as few strips as `room` allows. They have about equal lengths and are cut where few
    lines pass.

    Args:
        layout: a `NetworkLayout`.
        widths: the width of each layer's column.
        room: the maximum width of a strip; a wider column has a strip for itself.

    Returns:
        A list of ranges of layers.
    """
    passing = list(map(len, layout.passing()))
    ends = np.concatenate([[0], np.cumsum(widths)])
    best = {0: (0, 0.0, 0)}
    for stop in range(1, layout.depth + 1):
        choices: list[tuple[int, float, int]] = []
        for start in reversed(range(stop)):
            left = 1 - (ends[stop] - ends[start]) / room
            if left < 0 and choices:
                break
            count, cost, _ = best[start]
            choices.append((count + 1, cost + left**2 + 0.05 * passing[start], start))
        best[stop] = min(choices)
    strips: list[range] = []
    stop = layout.depth
    while stop:
        start = best[stop][2]
        strips.append(range(start, stop))
        stop = start
    return strips[::-1]


def _neighbors(taps: Sequence[str], edges: Iterable[Edge]) -> tuple[Links, Links]:
    parents: dict[str, list[str]] = {tap: [] for tap in taps}
    children: dict[str, list[str]] = {tap: [] for tap in taps}
    for parent, child in dict.fromkeys((parent, child) for parent, child in edges):
        for end in (parent, child):
            if end not in parents:
                raise checks.invalid(
                    "`edges`", "pairs of taps", repr(end), checks.nearest(str(end), parents)
                )
        parents[child].append(parent)
        children[parent].append(child)
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise checks.invalid(
            "`edges`", "free of cycles", f"the cycle {cycle}", "Remove one edge of the cycle."
        ) from None
    return parents, children


def _components(taps: Sequence[str], parents: Links, children: Links) -> Iterator[list[str]]:
    """Yields the connected components of more than one tap, each in the order of `taps`."""
    seen: set[str] = set()
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


def _arrange_connected(
    taps: Sequence[str], parents: Links, children: Links
) -> tuple[dict[Point, Place], dict[Edge, list[Point]]]:
    """Returns {point: (layer, row)} and {edge: [point, ...]} of one component.

    A point is a tap's name or, where a long edge passes a layer, a tuple (lane, layer).
    """
    depths: dict[Point, int] = {}
    depths.update(_depths(taps, parents, children))
    routes: dict[Edge, list[Point]] = {}
    skips: set[Link] = set()
    below = _descendants(taps, parents, children)
    for parent in taps:
        for child in children[parent]:
            # A skip connection is an edge between taps that a longer path also connects. It gives
            # way to this path, and all skip connections from one tap share a lane, so that dense
            # blocks stay legible.
            skip = any(child in below[other] for other in children[parent])
            lane = (parent,) if skip else (parent, child)
            passed = [(lane, layer) for layer in range(depths[parent] + 1, depths[child])]
            route: list[Point] = [parent, *passed, child]
            routes[parent, child] = route
            if skip:
                skips |= {(route[0], route[1]), (route[-2], route[-1])}
    links = list(dict.fromkeys(p for route in routes.values() for p in itertools.pairwise(route)))
    depths.update({p: int(p[1]) for route in routes.values() for p in route[1:-1]})
    layers = _ordered(depths, links)
    rows = _rows(layers, links, skips)
    return {point: (depths[point], rows[point]) for point in depths}, routes


def _depths(taps: Sequence[str], parents: Links, children: Links) -> dict[str, int]:
    order = list(graphlib.TopologicalSorter({tap: parents[tap] for tap in taps}).static_order())
    depths: dict[str, int] = {}
    stalk: set[str] = set()
    for tap in order:
        depths[tap] = 1 + max((depths[parent] for parent in parents[tap]), default=-1)
        # An unbranched run from an input can move toward its use without making an edge longer.
        if not parents[tap] or (
            len(parents[tap]) == len(children[tap]) == len(children[parents[tap][0]]) == 1
            and parents[tap][0] in stalk
        ):
            stalk.add(tap)
    for tap in reversed(order):
        if tap in stalk and children[tap]:
            depths[tap] = min(depths[child] for child in children[tap]) - 1
    return {tap: depths[tap] for tap in taps}


def _descendants(taps: Sequence[str], parents: Links, children: Links) -> dict[str, set[str]]:
    """Returns {tap: the set of taps below it}."""
    order = graphlib.TopologicalSorter({tap: parents[tap] for tap in taps}).static_order()
    below: dict[str, set[str]] = {}
    for tap in reversed(list(order)):
        below[tap] = set(children[tap]).union(*(below[child] for child in children[tap]))
    return below


def _ordered(depths: dict[Point, int], links: Sequence[Link]) -> list[list[Point]]:
    """Returns the layers, lists of points from top to bottom, with few crossings of the links."""
    before: dict[Point, list[Point]] = collections.defaultdict(list)
    after: dict[Point, list[Point]] = collections.defaultdict(list)
    for start, end in links:
        after[start].append(end)
        before[end].append(start)
    for ends in after.values():
        # Initially, lines are above taps, since a tap's name is below it.
        ends.sort(key=lambda point: isinstance(point, str))
    layers: list[list[Point]] = [[] for _ in range(1 + max(depths.values()))]
    # Depth first from the inputs, so that branches are initially side by side, not interleaved.
    seen: set[Point] = set()
    waiting = [point for point in reversed(depths) if not before[point]]
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
            center: dict[Point, Any] = {
                point: np.mean([at[other] for other in near[point]]) if near[point] else place
                for place, point in enumerate(layers[depth])
            }
            layers[depth].sort(key=center.__getitem__)
        crossings = _crossings(layers, after)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _crossings(layers: Sequence[list[Point]], after: Mapping[Point, list[Point]]) -> int:
    """Counts the pairs of links that cross: the inversions of their ends, layer by layer."""
    total = 0
    for layer, following in itertools.pairwise(layers):
        at = {point: place for place, point in enumerate(following)}
        passed: list[int] = []
        for point in layer:
            ends = sorted(at[end] for end in after[point])
            total += sum(len(passed) - bisect.bisect_right(passed, end) for end in ends)
            for end in ends:
                bisect.insort(passed, end)
    return total


def _rows(
    layers: Sequence[list[Point]], links: Sequence[Link], skips: set[Link]
) -> dict[Point, float]:
    """Returns {point: row} for layers in their final order.

    There is one variable per thread. The costs are the distances of each point from the mean of its
    parents and from the mean of its children, which center forks and joins, and, with less weight,
    the length of each link, which keeps branches together. Skip connections have little weight.
    """
    threads = _threads(layers, links, skips)

    def distance(point: Point, others: Sequence[Point]) -> Mapping[int, float]:
        """Returns a point's distance from the mean of others as {thread: coefficient}."""
        shares: dict[int, float] = collections.defaultdict(float, {threads[point]: 1.0})
        for other in others:
            shares[threads[other]] -= 1 / len(others)
        return shares

    costs = []
    for near in (0, 1):
        fans: dict[Point, list[Point]] = collections.defaultdict(list)
        for link in links:
            if link not in skips:
                fans[link[near]].append(link[1 - near])
        costs += [(1.0, distance(point, others)) for point, others in fans.items()]
    costs += [(0.02 if link in skips else 0.1, distance(link[0], link[1:])) for link in links]
    weights, distances = zip(*costs, strict=True)
    gaps: dict[tuple[int, int], float] = {}
    for layer in layers:
        for upper, lower in itertools.pairwise(layer):
            pair = threads[upper], threads[lower]
            gaps[pair] = max(gaps.get(pair, 0), _gap(upper, lower))

    # Minimize weights . e such that -e <= distances . y <= e and neighbors keep their gaps.
    count = 1 + max(threads.values())
    pulls = _matrix(distances, count)
    apart = _matrix([{upper: 1, lower: -1} for upper, lower in gaps], count)
    slack = sparse.eye_array(len(weights))
    table = sparse.block_array([[pulls, -slack], [-pulls, -slack], [apart, None]])
    bounds = np.r_[np.zeros(2 * len(weights)), [-gap for gap in gaps.values()]]
    solution = optimize.linprog(np.r_[np.zeros(count), weights], table, bounds)
    assert solution.status == 0, solution.message
    return {point: round(float(solution.x[thread]), 6) for point, thread in threads.items()}


def _matrix(rows: Sequence[Mapping[int, float]], width: int) -> Any:
    """Returns a sparse matrix of rows {column: value}."""
    columns = [column for row in rows for column in row]
    values = [value for row in rows for value in row.values()]
    ends = np.cumsum([0, *map(len, rows)])
    return sparse.csr_array((values, columns, ends), shape=(len(rows), width))


def _gap(upper: Point, lower: Point) -> float:
    if isinstance(upper, tuple):
        return _LINE_LINE if isinstance(lower, tuple) else _LINE_TAP
    return _TAP_LINE if isinstance(lower, tuple) else _TAP_TAP


def _threads(
    layers: Sequence[list[Point]], links: Sequence[Link], skips: set[Link]
) -> dict[Point, int]:
    """Returns {point: index of its thread}.

    A thread continues along a link if it is the only link from its start and the only link to its
    end, apart from skip connections. If two such links cross, only one can be level; links of lines
    take precedence over links of taps, since lines are long.
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
    kept: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
    follows: dict[Point, Point] = {}
    for start, end in level:
        depth, a = place[start]
        b = place[end][1]
        if all((a - other_a) * (b - other_b) > 0 for other_a, other_b in kept[depth]):
            kept[depth].append((a, b))
            follows[end] = start
    threads: dict[Point, int] = {}
    fresh = itertools.count()
    for layer in layers:
        for point in layer:
            threads[point] = threads[follows[point]] if point in follows else next(fresh)
    return threads
