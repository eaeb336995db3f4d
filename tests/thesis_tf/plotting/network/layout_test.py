"""Layouts of the taps of a network: layers, rows, routes and strips."""

import itertools

import numpy as np
import pytest

from thesis_tf.plotting.network import layout


def chain(*names):
    return list(itertools.pairwise(names))


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
    """Counts crossing pairs of segments by comparing all pairs."""
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
def test_there_are_as_many_layers_as_the_longest_path_has_taps(networks, name):
    taps, edges = networks.named[name]
    assert layout.arrange(taps, edges).depth == 1 + longest_path(taps, edges)


def test_a_chain_is_straight(networks):
    places = layout.arrange(*networks.named["chain"]).places
    assert places == {name: (layer, 0.0) for layer, name in enumerate("abcdefg")}


def test_a_skip_connection_passes_above_a_straight_network(networks):
    taps, edges = networks.mlp(128, 64)
    places, routes = layout.arrange(taps, edges)
    (row,) = {row for _, row in places.values()}
    lane = routes["input", "dense_64"][1:-1]
    assert len(lane) == 63
    assert len({height for _, height in lane}) == 1
    assert lane[0][1] == pytest.approx(row - 0.75)


def test_skip_connections_of_one_tap_share_a_lane(networks):
    _, routes = layout.arrange(*networks.dense_block(6))
    lanes = [routes["l0", f"l{i}"][1:-1] for i in range(2, 6)]
    assert all(lane == lanes[-1][: len(lane)] for lane in lanes)


def test_forks_and_joins_are_centered_on_their_branches(networks):
    lengths = (1, 2, 3, 1)
    places, routes = layout.arrange(*networks.inception(3, lengths))
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
        # In the given order, the rungs of this ladder would cross one another,
        [("in", "a"), ("in", "b"), ("in", "c"), ("c", "f"), ("a", "d"), ("b", "e")],
        # and so would these joins, even in the order of a depth-first search.
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
def test_fold_takes_the_fewest_strips(networks, room):
    folded = layout.arrange(*networks.inception(2))
    widths = np.linspace(0.6, 1.4, folded.depth)
    strips = layout.fold(folded, widths, room)
    assert [layer for strip in strips for layer in strip] == list(range(folded.depth))
    assert all(widths[strip].sum() <= room for strip in strips)
    # Filling each strip as far as possible gives the smallest number of strips.
    fewest, filled = 1, 0.0
    for width in widths:
        filled += width
        if filled > room:
            fewest, filled = fewest + 1, width
    assert len(strips) == fewest


def test_fold_cuts_where_one_line_passes(networks):
    folded = layout.arrange(*networks.inception(6))
    strips = layout.fold(folded, np.ones(folded.depth), 14)
    names = {layer: tap for tap, (layer, _) in folded.places.items()}
    assert len(strips) == 2
    assert names[strips[0][-1]].startswith("mixed")
