"""The colored network, and properties of all figures: colors, names, reproducible files."""

import colorsys
import concurrent.futures
import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from thesis_tf.probes.plots.curves import draw_curve
from thesis_tf.probes.plots.network import Mark, draw_network, error_color

SVG = "{http://www.w3.org/2000/svg}"
TAPS = ["input", "conv1", "pool1", "conv2", "logits"]
EDGES = list(itertools.pairwise(TAPS))
ODD = ["encoder/dense#2", "<a&b>", '"quoted"', "a$b$c_{d}", "σ_слой", "x" * 60, "tap-0-0"]


def marks(values=(0.9, 0.45, 0.3, 0.1, 0.0)):
    return {tap: Mark(value) for tap, value in zip(TAPS, values, strict=True)}


def parsed(path):
    """Returns {gid: (title, fill)} of an SVG's taps, and all its texts."""
    root = ElementTree.parse(path).getroot()
    taps = {}
    for group in root.iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            style = group.find(f"{SVG}path").get("style")
            taps[group.get("id")] = title.text, re.search(r"fill: (#\w+)", style)[1]
    return taps, ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def centers(path, prefix):
    """Returns the centers of the shapes whose ids begin with a prefix, as an array (count, 2)."""
    found = []
    for group in ElementTree.parse(path).getroot().iter(f"{SVG}g"):
        if group.get("id", "").startswith(prefix):
            shape = re.findall(r"[-\d.]+", group.find(f"{SVG}path").get("d"))
            corners = np.array(shape, float).reshape(-1, 2)
            found.append((corners.min(axis=0) + corners.max(axis=0)) / 2)
    return np.array(found)


def hue(color):
    return 360 * colorsys.rgb_to_hsv(*matplotlib.colors.to_rgb(color))[0]


def test_hue_goes_from_blue_through_green_to_red():
    hues = [hue(error_color(value, (0, 1))) for value in np.linspace(0, 1, 101)]
    assert hues[0] == pytest.approx(217, abs=10)
    assert hues[-1] == pytest.approx(0, abs=5)
    assert any(100 < value < 140 for value in hues)
    assert np.diff(hues).max() < 1.5  # 8-bit colors have steps of about a degree
    assert np.diff(hues[::5]).max() < 0


def test_values_beyond_the_range_keep_the_color_of_its_end():
    assert error_color(-0.1, (0, 0.9)) == error_color(0, (0, 0.9))
    assert error_color(5, (0, 0.9)) == error_color(0.9, (0, 0.9))


def test_the_good_end_may_be_the_greater():
    assert error_color(0.75, (1, 0)) == error_color(0.25, (0, 1))


@pytest.mark.parametrize("ends", [(0.001, 1), (1, 0.001)])
def test_equal_ratios_are_equal_steps_of_a_logarithmic_scale(ends):
    steps = [error_color(value, ends, log=True) for value in (0, 0.001, 0.01, 0.1, 1, 5)]
    first, last = ends[0] > ends[1], ends[0] < ends[1]
    even = [error_color(value, (first, last)) for value in (0, 0, 1 / 3, 2 / 3, 1, 1)]
    assert steps == even


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan")])
def test_a_tap_that_was_not_measured_is_gray(value):
    red, green, blue = matplotlib.colors.to_rgb(error_color(value, (0, 1)))
    assert max(red, green, blue) - min(red, green, blue) < 0.05


def test_svg_has_each_tap_with_its_color_and_tooltip(tmp_path):
    path = tmp_path / "network.svg"
    panel = marks() | {"pool1": Mark(0.3, "9216 features\nridge 1e-3"), "conv2": Mark(None)}
    draw_network({"": panel}, EDGES, path, value_range=(0, 0.9), title="MNIST")
    taps, texts = parsed(path)
    assert [taps[f"tap-0-{i}"] for i in range(len(TAPS))] == [
        ("input\ntest error 0.9", error_color(1, (0, 1))),
        ("conv1\ntest error 0.45", error_color(0.5, (0, 1))),
        ("pool1\ntest error 0.3\n9216 features\nridge 1e-3", error_color(1 / 3, (0, 1))),
        ("conv2\nnot measured", error_color(None, (0, 1))),
        ("logits\ntest error 0", error_color(0, (0, 1))),
    ]
    assert len(taps) == len(TAPS)
    assert set(TAPS) | {"MNIST", "test error", "0", "0.9", "not measured"} <= set(texts)
    assert {".900", ".450", ".300", ".000"} <= set(texts)


def test_panels_share_one_scale_and_lack_what_was_not_measured(tmp_path):
    path = tmp_path / "network.svg"
    later = {"conv2": Mark(0.9), "logits": Mark(0.45)}
    draw_network({"step 0": marks(), 500: later}, EDGES, path, value_range=(0, 0.9))
    taps, texts = parsed(path)
    assert {"step 0", "500"} <= set(texts)
    assert len(taps) == 2 * len(TAPS)
    assert taps["tap-1-0"][0] == "input\nnot measured"
    assert taps["tap-1-3"] == ("conv2\ntest error 0.9", taps["tap-0-0"][1])
    assert taps["tap-1-4"] == ("logits\ntest error 0.45", taps["tap-0-1"][1])


def test_lines_lead_from_tap_to_tap_in_each_panel(tmp_path):
    path = tmp_path / "network.svg"
    draw_network({"a": marks(), "b": marks()}, EDGES, path, value_range=(0, 0.9))
    shapes = list(ElementTree.parse(path).getroot().iter(f"{SVG}path"))
    lines = [shape.get("d") for shape in shapes if "fill: none" in shape.get("style", "")]
    for number, drawn in enumerate(lines):
        ends = np.array(re.findall(r"[-\d.]+", drawn), float).reshape(len(EDGES), 2, 2)
        places = centers(path, f"tap-{number}-")
        assert ends[:, 0] == pytest.approx(places[:-1], abs=1e-4)
        assert ends[:, 1] == pytest.approx(places[1:], abs=1e-4)
    assert len(lines) == 2


def test_each_measured_tap_has_a_diode(tmp_path):
    path = tmp_path / "network.svg"
    panel = marks() | {"pool1": Mark(None)}
    draw_network({"": panel}, EDGES, path, value_range=(0, 0.9))
    drawn = [
        shape.get("d")
        for shape in ElementTree.parse(path).getroot().iter(f"{SVG}path")
        if "fill: #ffffff; stroke" in shape.get("style", "")
    ]
    legend, probes = sorted(drawn, key=len)
    # A diode has four strokes; only the triangle is closed.
    assert (legend.count("M"), legend.lower().count("z")) == (4, 1)
    assert (probes.count("M"), probes.lower().count("z")) == (4 * 4, 4)


@pytest.mark.parametrize("draw", ["network", "curve"])
def test_odd_names_survive(tmp_path, draw):
    path = tmp_path / "odd.svg"
    if draw == "network":
        panel = {name: Mark(0.1, f"{name} & more") for name in ODD}
        draw_network({"$x$ <1>": panel}, list(itertools.pairwise(ODD)), path, value_range=(0, 1))
        taps, texts = parsed(path)
        assert [taps[f"tap-0-{i}"][0] for i in range(len(ODD))] == [
            f"{name}\ntest error 0.1\n{name} & more" for name in ODD
        ]
    else:
        points = [(name, 0.1, None) for name in ODD]
        draw_curve({"_$x$ <1>": points}, path, ylabel="$e$ & f", title="a < b")
        _, texts = parsed(path)
        assert {"_$x$ <1>", "$e$ & f", "a < b"} <= set(texts)
    assert {name for name in ODD if len(name) < 20} <= set(texts)
    assert not any(len(text) > 40 for text in texts)  # the long name is shortened


def test_characters_that_xml_cannot_hold_are_replaced(tmp_path):
    path = tmp_path / "network.svg"
    draw_network({"": {"a\x00b\ud800": Mark(0.1, "c\x1b")}}, [], path, value_range=(0, 1))
    assert parsed(path)[0]["tap-0-0"][0] == "a\ufffdb\ufffd\ntest error 0.1\nc\ufffd"


def pictures(folder, suffix):
    curve, network = folder / f"curve{suffix}", folder / f"network{suffix}"
    draw_curve({"test": [(tap, 0.1, 0.01) for tap in TAPS]}, curve, reference=0.05, title="t")
    draw_network({"": marks()}, EDGES, network, value_range=(0, 0.9))
    return curve.read_bytes(), network.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".SVG"])
def test_the_same_numbers_give_the_same_bytes_in_threads_too(tmp_path, suffix):
    before = dict(matplotlib.rcParams)
    folders = [tmp_path / str(number) for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda folder: pictures(folder, suffix), folders))
    assert set(drawn) == {pictures(tmp_path, suffix)}
    assert dict(matplotlib.rcParams) == before
    signature = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix.lower()]
    assert all(picture.startswith(signature) for picture in drawn[0])
    assert sorted(path.name for path in folders[0].iterdir()) == [
        f"curve{suffix}",
        f"network{suffix}",
    ]


def test_svg_declares_only_its_own_namespaces_and_no_date(tmp_path):
    for text in map(bytes.decode, pictures(tmp_path, ".svg")):
        assert re.findall(r"xmlns(?::\w+)?=\"[^\"]+\"", text) == [
            'xmlns="http://www.w3.org/2000/svg"',
            'xmlns:xlink="http://www.w3.org/1999/xlink"',
        ]
        assert "ns0:" not in text
        assert "date" not in text.lower()


def test_png_is_the_svg_at_150_dots_an_inch_and_shows_the_colors(tmp_path):
    for suffix in (".svg", ".png"):
        draw_network({"": marks()}, EDGES, tmp_path / f"n{suffix}", value_range=(0, 0.9))
    root = ElementTree.parse(tmp_path / "n.svg").getroot()
    pixels = image.imread(tmp_path / "n.png")
    points = [float(root.get(side).removesuffix("pt")) for side in ("height", "width")]
    assert pixels.shape[:2] == pytest.approx(np.array(points) * 150 / 72, abs=1)
    seen = np.round(pixels[..., :3] * 255).astype(int)
    corner = seen[:10, :10]
    assert (corner == 255).all()
    for _, color in parsed(tmp_path / "n.svg")[0].values():
        fill = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        # A tap is 9 points wide, which is 18 pixels.
        assert (seen == fill).all(axis=-1).sum() > 200


@pytest.mark.slow
def test_an_inception_like_network_in_four_panels(tmp_path):
    taps, edges = ["stem"], []
    for block in range(11):
        start, end = taps[-1], f"mixed{block}"
        for branch, length in enumerate((2, 4, 6, 3)):
            run = [f"activation_{block}_{branch}_{i}" for i in range(length)]
            taps += run
            edges += itertools.pairwise([start, *run, end])
        taps.append(end)
    panel = {tap: Mark(1 - place / len(taps)) for place, tap in enumerate(taps)}
    path = tmp_path / "inception.svg"
    draw_network({f"step {i}": panel for i in range(4)}, edges, path, value_range=(0, 1))
    found, texts = parsed(path)
    assert len(taps) == 177
    assert len(found) == 4 * len(taps)
    # Joins are landmarks: they keep their names where others have no room.
    assert all(texts.count(f"mixed{block}") == 4 for block in range(10))
    assert texts.count("activation_3_1_2") == 0


def test_errors_of_the_network(tmp_path):
    path = tmp_path / "network.svg"
    path.write_text("older")
    for panels, edges, value_range, match in (
        ({}, [], (0, 1), "`panels` must be marks of at least one tap"),
        ({"": {}}, [], (0, 1), "`panels` must be marks of at least one tap"),
        ({"": marks()}, [("conv2", "conv2b")], (0, 1), "Received: 'conv2b'.*nearest are: conv2"),
        ({"": marks()}, [*EDGES, ("logits", "conv1")], (0, 1), "free of cycles.*logits"),
        ({"": marks()}, EDGES, (0, 0), "`value_range` must be two different finite numbers"),
        ({"": marks()}, EDGES, (0, float("nan")), "`value_range` must be two different"),
        ({"": marks()}, EDGES, (0, 1, 2), "`value_range` must be two different"),
    ):
        with pytest.raises(ValueError, match=match):
            draw_network(panels, edges, path, value_range=value_range)
    with pytest.raises(ValueError, match="two different finite positive numbers"):
        draw_network({"": marks()}, EDGES, path, value_range=(0, 1), log=True)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["curve", "curve.jpg", "curve.svgz"])
def test_other_suffixes_are_errors(tmp_path, name):
    match = r"`path` must be a file that ends in \.png, \.svg, \.pdf"
    with pytest.raises(ValueError, match=match):
        draw_curve({"test": [("a", 0.1, None)]}, tmp_path / name)
    with pytest.raises(ValueError, match=match):
        draw_network({"": marks()}, EDGES, tmp_path / name, value_range=(0, 1))
