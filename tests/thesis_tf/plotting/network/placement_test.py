"""Placement in a figure: strips, labels without overlaps, columns that panels share."""

import itertools
import math

import numpy as np
import pytest

from thesis_tf.plotting.network.layout import arrange
from thesis_tf.plotting.network.placement import NAME_HEIGHT, VALUE_HEIGHT, Placement


def boxes(page, labels):
    """Returns the boxes of taps with their probes and of the labels that a page shows."""
    found = []
    for tap, (x, y) in page.places.items():
        top = page.above - VALUE_HEIGHT
        found.append((x - page.half, y - top, x + page.half, y + page.half))
        if tap in page.valued:
            across, up = (7, 0) if not page.valued[tap] else (3.5, 8)
            end = y - top - 1
            found.append((x - across, end - VALUE_HEIGHT + 1 - up, x + across, end))
        if tap in page.named:
            lines, turned = page.named[tap]
            across = next(width for form, width in labels[tap] if form == lines)
            down = NAME_HEIGHT * len(lines)
            if turned:
                across, down = NAME_HEIGHT, across
            start = y + page.half + 1.5
            found.append((x - across / 2, start, x + across / 2, start + down))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("panels", [1, 4])
def test_nothing_on_a_page_overlaps(network, panels):
    taps, edges = network
    # Short and long names; some have a form in two lines.
    labels = {tap: [([tap * 3], 11 * len(tap)), ([tap, tap * 2], 7 * len(tap))] for tap in taps}
    page = Placement(arrange(taps, edges), labels, panels)
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


def test_labels_keep_off_the_lines(networks):
    taps, edges = networks.named["inception"]
    labels = {tap: [([tap], 6 * len(tap))] for tap in taps}
    page = Placement(arrange(taps, edges), labels, 4)
    found = boxes(page, labels)
    found = found[found[:, 3] - found[:, 1] < page.above - VALUE_HEIGHT]  # only labels
    assert len(found) > len(taps) / 2
    for stroke in page.strokes():
        for line in stroke.to_polygons(closed_only=False):
            for start, end in itertools.pairwise(line):
                count = math.ceil(math.dist(start, end)) + 1
                for x, y in np.linspace(start, end, count):
                    inside = (found[:, 0] < x) & (x < found[:, 2])
                    assert not np.any(inside & (found[:, 1] < y) & (y < found[:, 3]))


def test_a_deep_network_goes_on_in_further_strips(networks):
    taps, edges = networks.mlp(128, 64)
    labels = {tap: [([tap], 30)] for tap in taps}
    page = Placement(arrange(taps, edges), labels, 1)
    heights = sorted({y for _, y in page.places.values()})
    assert len(heights) == 3
    assert np.diff(heights).min() > page.above + page.half
    order = sorted(taps, key=lambda tap: (page.places[tap][1], page.places[tap][0]))
    assert order == taps
    assert len(page.valued) == len(taps)
    # About every other name has room, always including both ends of the skip connection.
    assert 55 < len(page.named) < 75
    assert {"input", "dense_64"} <= set(page.named)


def test_panels_that_would_get_too_high_share_narrower_columns(networks):
    taps, edges = networks.inception(14)
    labels = {tap: [([tap], 30)] for tap in taps}
    arranged = arrange(taps, edges)
    alone, together = (Placement(arranged, labels, panels) for panels in (1, 4))
    assert 4 * alone.height > 1000 >= 4 * together.height
    assert len(together.valued) < len(alone.valued) <= len(taps)
    # Landmarks always have their values, turned if necessary.
    assert {f"mixed{block}" for block in range(13)} <= set(together.valued)
    taps, edges = networks.inception(11, (2, 4, 6, 3))
    deeper = Placement(arrange(taps, edges), {tap: [([tap], 30)] for tap in taps}, 4)
    turned = {tap for tap, turned in deeper.valued.items() if turned}
    assert {f"mixed{block}" for block in range(10)} <= turned
