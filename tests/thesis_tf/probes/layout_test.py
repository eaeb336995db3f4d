"""Where the taps of a network go: layers, rows, routes, strips and the room of labels."""

import itertools
import math
import random

import numpy as np
import pytest

from thesis_tf.probes import layout


def chain(*names):
    return list(itertools.pairwise(names))


def mlp(depth, skip_to):
    names = ["input", *(f"dense_{i}" for i in range(1, depth + 1))]
    return names, [*chain(*names), ("input", f"dense_{skip_to}")]


def inception(blocks, lengths=(1, 2, 3, 1)):
    names, edges = ["conv_1", "conv_2"], [("conv_1", "conv_2")]
    for block in range(blocks):
        start, end = names[-1], f"mixed{block}"
        for branch, length in enumerate(lengths):
            run = [f"b{block}_{branch}_{i}" for i in range(length)]
            names += run
            edges += chain(start, *run, end)
        names.append(end)
    return names, edges


def dense_block(width):
    names = [f"l{i}" for i in range(width)]
    return names, list(itertools.combinations(names, 2))


def several_ends():
    edges = [
        *chain("image", "conv1", "conv2", "fuse", "hidden", "class"),
        *chain("text", "embed", "fuse", "box"),
        *chain("meta", "hidden"),
        ("conv1", "box"),
    ]
    return [*dict.fromkeys(itertools.chain(*edges)), "unused_a", "unused_b"], edges


def random_dag(seed):
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(40)]
    edges = [(names[draw.randrange(i)], names[i]) for i in range(1, 40) for _ in range(2)]
    return names, edges


NETWORKS = {
    "one": (["logits"], []),
    "chain": (list("abcdefg"), chain(*"abcdefg")),
    "mlp": mlp(128, 64),
    "inception": inception(9),
    "dense block": dense_block(9),
    "several ends": several_ends(),
    **{f"random {seed}": random_dag(seed) for seed in range(4)},
}


@pytest.fixture(params=NETWORKS, name="network")
def _network(request):
    return NETWORKS[request.param]


def longest_path(taps, edges):
    return max(
        (
            1 + longest_path([child], [edge for edge in edges if edge[0] != tap])
            for tap in taps
            for parent, child in edges
            if parent == tap
        ),
        default=0,
    )


def crossings(routes):
    """Counts crossing pairs of segments by comparing every two of them."""
    segments = {pair for route in routes.values() for pair in itertools.pairwise(route)}
    return sum(
        (a[0][1] - b[0][1]) * (a[1][1] - b[1][1]) < 0
        for a, b in itertools.combinations(segments, 2)
        if a[0][0] == b[0][0]
    )


def test_every_edge_leads_to_a_later_layer_along_its_route(network):
    taps, edges = network
    places, routes = layout.arrange(taps, edges)
    assert list(places) == taps
    assert set(routes) == set(edges)
    for (parent, child), route in routes.items():
        assert route[0] == places[parent]
        assert route[-1] == places[child]
        layers = [layer for layer, _ in route]
        assert layers == list(range(places[parent][0], places[child][0] + 1))
        assert len(layers) >= 2


def test_points_of_a_layer_keep_apart(network):
    taps, edges = network
    places, routes = layout.arrange(taps, edges)
    lines = {point for route in routes.values() for point in route[1:-1]}
    for (layer_a, a), (layer_b, b) in itertools.combinations(places.values(), 2):
        assert layer_a != layer_b or abs(a - b) >= 1 - 1e-5
    for (layer, row), (line_layer, line_row) in itertools.product(places.values(), lines):
        assert layer != line_layer or abs(row - line_row) >= 0.5 - 1e-5


@pytest.mark.parametrize("name", ["chain", "dense block", "several ends"])
def test_there_are_as_many_layers_as_the_longest_path_has_taps(name):
    taps, edges = NETWORKS[name]
    assert layout.arrange(taps, edges).depth == 1 + longest_path(taps, edges)


def test_a_chain_is_straight():
    places = layout.arrange(*NETWORKS["chain"]).places
    assert places == {name: (layer, 0.0) for layer, name in enumerate("abcdefg")}


def test_a_skip_connection_passes_above_a_straight_network():
    taps, edges = mlp(128, 64)
    places, routes = layout.arrange(taps, edges)
    (row,) = {row for _, row in places.values()}
    lane = routes["input", "dense_64"][1:-1]
    assert len(lane) == 63
    assert len({height for _, height in lane}) == 1
    assert lane[0][1] == pytest.approx(row - 0.75)


def test_skip_connections_of_one_tap_share_a_lane():
    _, routes = layout.arrange(*dense_block(6))
    lanes = [routes["l0", f"l{i}"][1:-1] for i in range(2, 6)]
    assert all(lane == lanes[-1][: len(lane)] for lane in lanes)


def test_forks_and_joins_are_centred_on_their_branches():
    lengths = (1, 2, 3, 1)
    places, routes = layout.arrange(*inception(3, lengths))
    for block in range(3):
        first = [places[f"b{block}_{branch}_0"][1] for branch in range(len(lengths))]
        assert sorted(np.diff(sorted(first))) == pytest.approx([1, 1, 1])
        for branch, length in enumerate(lengths):
            rows = {places[f"b{block}_{branch}_{i}"][1] for i in range(length)}
            assert rows == {first[branch]}
        fork = "conv_2" if block == 0 else f"mixed{block - 1}"
        assert places[fork][1] == pytest.approx(np.mean(first))
        assert places[f"mixed{block}"][1] == pytest.approx(np.mean(first))
    assert crossings(routes) == 0


@pytest.mark.parametrize(
    "edges",
    [
        # In the order given, the rungs of this ladder would cross one another,
        [("in", "a"), ("in", "b"), ("in", "c"), ("c", "f"), ("a", "d"), ("b", "e")],
        # and so would these joins even in the order of a walk through the network.
        [("in", "a"), ("in", "b"), ("in", "c"), ("a", "d"), ("c", "d"), ("b", "e"), ("b", "f")],
    ],
)
def test_crossings_that_can_be_avoided_are(edges):
    edges = [*edges, ("d", "out"), ("e", "out"), ("f", "out")]
    taps = ["in", *"abcfde", "out"]
    assert crossings(layout.arrange(taps, edges).routes) == 0


def test_a_late_input_stands_just_before_its_use():
    edges = [*chain("a", "b", "c", "d", "e"), *chain("late", "embed", "e")]
    places = layout.arrange([*"abcde", "late", "embed"], edges).places
    assert [places[name][0] for name in ("late", "embed", "e")] == [2, 3, 4]


def test_components_and_lone_taps_stand_under_one_another():
    edges = [*chain("a", "b", "c"), *chain("x", "y")]
    places = layout.arrange(["p", *"abcxy", "q"], edges).places
    assert [places[name] for name in "abc"] == [(0, 0), (1, 0), (2, 0)]
    assert [places[name] for name in "xy"] == [(0, 1), (1, 1)]
    assert [places[name] for name in "pq"] == [(0, 2), (1, 2)]


def test_the_same_network_has_the_same_layout(network):
    taps, edges = network
    assert layout.arrange(taps, edges) == layout.arrange(taps, [*edges, *edges[:3]])


@pytest.mark.parametrize("edges", [[("b", "b")], [*chain(*"abcd"), ("d", "b")]])
def test_a_cycle_is_named(edges):
    with pytest.raises(ValueError, match="`edges` must be free of cycles") as error:
        layout.arrange(list("abcd"), edges)
    cycle = str(error.value).split("the cycle ")[1].split(".")[0].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert set(itertools.pairwise(cycle)) == set(edges) - {("a", "b")}


def test_an_unknown_tap_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"Received: 'conv_9'.*nearest are: conv_"):
        layout.arrange(["conv_1", "conv_2"], [("conv_1", "conv_9")])


def test_no_taps_are_an_error():
    with pytest.raises(ValueError, match="`taps` must be at least one name"):
        layout.arrange([], [])


@pytest.mark.parametrize("room", [2, 3, 4.5, 100])
def test_fold_takes_the_fewest_strips(room):
    folded = layout.arrange(*inception(2))
    widths = np.linspace(0.6, 1.4, folded.depth)
    strips = layout.fold(folded, widths, room)
    assert [layer for strip in strips for layer in strip] == list(range(folded.depth))
    assert all(widths[strip].sum() <= room for strip in strips)
    # Filling each strip as far as it goes is optimal in their number.
    fewest, filled = 1, 0.0
    for width in widths:
        filled += width
        if filled > room:
            fewest, filled = fewest + 1, width
    assert len(strips) == fewest


def test_fold_cuts_where_one_line_passes():
    folded = layout.arrange(*inception(6))
    strips = layout.fold(folded, np.ones(folded.depth), 14)
    names = {layer: tap for tap, (layer, _) in folded.places.items()}
    assert len(strips) == 2
    assert names[strips[0][-1]].startswith("mixed")


def boxes(page, labels):
    """Returns the boxes of taps with their probes and of the labels that a page shows."""
    found = []
    for tap, (x, y) in page.places.items():
        top = page.above - layout.VALUE_HEIGHT
        found.append((x - page.half, y - top, x + page.half, y + page.half))
        if tap in page.valued:
            across, up = (7, 0) if not page.valued[tap] else (3.5, 8)
            end = y - top - 1
            found.append((x - across, end - layout.VALUE_HEIGHT + 1 - up, x + across, end))
        if tap in page.named:
            lines, turned = page.named[tap]
            across = next(width for form, width in labels[tap] if form == lines)
            down = layout.NAME_HEIGHT * len(lines)
            if turned:
                across, down = layout.NAME_HEIGHT, across
            start = y + page.half + 1.5
            found.append((x - across / 2, start, x + across / 2, start + down))
    return np.array(found)


@pytest.mark.parametrize("panels", [1, 4])
def test_nothing_on_a_page_overlaps(network, panels):
    taps, edges = network
    # Long and short names, of which some have a form in two lines.
    labels = {tap: [([tap * 3], 11 * len(tap)), ([tap, tap * 2], 7 * len(tap))] for tap in taps}
    page = layout.Page(layout.arrange(taps, edges), labels, panels)
    assert list(page.places) == taps
    found = boxes(page, labels)
    assert len(found) >= len(taps)
    for a, b in itertools.combinations(found, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    assert found[:, [0, 2]].min() >= -12
    assert found[:, [0, 2]].max() <= page.width + 12
    assert found[:, [1, 3]].min() >= -1e-6
    assert found[:, [1, 3]].max() <= page.height
    for stroke in page.strokes():
        assert stroke.vertices.min() >= -1e-6
        assert (stroke.vertices <= [page.width, page.height]).all()


def test_labels_keep_off_the_lines():
    taps, edges = NETWORKS["inception"]
    labels = {tap: [([tap], 6 * len(tap))] for tap in taps}
    page = layout.Page(layout.arrange(taps, edges), labels, 4)
    found = boxes(page, labels)
    found = found[found[:, 3] - found[:, 1] < page.above - layout.VALUE_HEIGHT]  # labels alone
    assert len(found) > len(taps) / 2
    for stroke in page.strokes():
        for line in stroke.to_polygons(closed_only=False):
            for start, end in itertools.pairwise(line):
                count = math.ceil(math.dist(start, end)) + 1
                for x, y in np.linspace(start, end, count):
                    inside = (found[:, 0] < x) & (x < found[:, 2])
                    assert not np.any(inside & (found[:, 1] < y) & (y < found[:, 3]))


def test_a_deep_network_goes_on_in_further_strips():
    taps, edges = mlp(128, 64)
    labels = {tap: [([tap], 30)] for tap in taps}
    page = layout.Page(layout.arrange(taps, edges), labels, 1)
    heights = sorted({y for _, y in page.places.values()})
    assert len(heights) == 3
    assert np.diff(heights).min() > page.above + page.half
    order = sorted(taps, key=lambda tap: (page.places[tap][1], page.places[tap][0]))
    assert order == taps
    assert len(page.valued) == len(taps)
    # Every other name has room; the ends of the skip connection are sure of theirs.
    assert 55 < len(page.named) < 75
    assert {"input", "dense_64"} <= set(page.named)


def test_panels_that_would_get_too_high_share_narrower_columns():
    taps, edges = inception(14)
    labels = {tap: [([tap], 30)] for tap in taps}
    arranged = layout.arrange(taps, edges)
    alone, together = (layout.Page(arranged, labels, panels) for panels in (1, 4))
    assert 4 * alone.height > 1000 >= 4 * together.height
    assert len(together.valued) < len(alone.valued) <= len(taps)
    # The landmarks keep their values, turned where they have no room otherwise.
    assert {f"mixed{block}" for block in range(13)} <= set(together.valued)
    deeper = layout.Page(
        layout.arrange(*inception(11, (2, 4, 6, 3))),
        {tap: [([tap], 30)] for tap in inception(11, (2, 4, 6, 3))[0]},
        4,
    )
    assert {f"mixed{block}" for block in range(10)} <= {
        tap for tap, turned in deeper.valued.items() if turned
    }
