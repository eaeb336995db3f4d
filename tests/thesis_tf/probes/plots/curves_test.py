"""Curves of errors: points, bars and lines in the right places, names if there is room."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib import image

from thesis_tf.probes.plots.curves import draw_curve

SVG = "{http://www.w3.org/2000/svg}"


def line(path, number, kind="series"):
    """Returns the points of a series' line in an SVG, a list of arrays separated by gaps."""
    root = ElementTree.parse(path).getroot()
    (group,) = (g for g in root.iter(f"{SVG}g") if g.get("id") == f"{kind}-{number}")
    runs = group.find(f"{SVG}path").get("d").split("M")[1:]
    return [np.array(re.findall(r"[-\d.]+", run), float).reshape(-1, 2) for run in runs]


def test_a_curve_has_its_points_at_their_depth_and_error(tmp_path, svg_texts):
    path = tmp_path / "curve.svg"
    errors = [0.9, 0.5, 0.4, 0.1]
    points = [(f"tap {i}", error, 0.01) for i, error in enumerate(errors)]
    draw_curve({"test": points}, path, reference=0.05, chance=0.9)
    (drawn,) = line(path, 0)
    assert np.diff(drawn[:, 0]) == pytest.approx(np.full(3, drawn[1, 0] - drawn[0, 0]))
    slope, start = np.polyfit(errors, drawn[:, 1], 1)
    assert slope < 0  # y points downward in an SVG
    assert slope * np.array(errors) + start == pytest.approx(drawn[:, 1], abs=1e-4)
    texts = svg_texts(path)
    assert [text for text in texts if text.startswith("tap ")] == [f"tap {i}" for i in range(4)]
    assert {"test", "the model's error", "always the commonest class", "test error"} <= set(texts)
    # The axis begins at an error of 0: `patch_2` is the area of the axes.
    root = ElementTree.parse(path).getroot()
    (area,) = (group for group in root.iter(f"{SVG}g") if group.get("id") == "patch_2")
    corners = re.findall(r"[-\d.]+", area.find(f"{SVG}path").get("d"))
    assert start == pytest.approx(max(map(float, corners[1::2])), abs=1e-4)
    # The two horizontal lines are dashed and at their values.
    level = [
        float(shape.get("d").split()[2])
        for shape in root.iter(f"{SVG}path")
        if "stroke-dasharray" in shape.get("style", "")
    ]
    assert level[:2] == pytest.approx([slope * 0.05 + start, slope * 0.9 + start], abs=1e-4)


def test_standard_errors_are_drawn_to_scale(tmp_path):
    path = tmp_path / "curve.svg"
    errors, spreads = [0.9, 0.5, 0.3], [0.05, None, 0.1]
    points = [(name, e, s) for name, e, s in zip("abc", errors, spreads, strict=True)]
    draw_curve({"test": points}, path)
    (drawn,) = line(path, 0)
    slope = (drawn[0, 1] - drawn[1, 1]) / 0.4
    bars = []
    for shape in ElementTree.parse(path).getroot().iter(f"{SVG}path"):
        numbers = [float(n) for n in re.findall(r"[-\d.]+", shape.get("d") or "")]
        if len(numbers) == 4 and numbers[0] == numbers[2] and "clip-path" in shape.attrib:
            bars += [(numbers[0], abs(numbers[1] - numbers[3]))]
    assert bars == [
        (pytest.approx(drawn[0, 0]), pytest.approx(2 * 0.05 * abs(slope), abs=1e-4)),
        (pytest.approx(drawn[2, 0]), pytest.approx(2 * 0.1 * abs(slope), abs=1e-4)),
    ]


def test_a_logarithmic_axis_has_even_ratios_and_room_for_no_error(tmp_path, svg_texts):
    path = tmp_path / "curve.svg"
    errors = [0.9, 0.09, 0.009, 0.0]
    draw_curve({"test": [(f"t{e}", e, e / 2) for e in errors]}, path, chance=0.9, log=True)
    (drawn,) = line(path, 0)
    rises = np.diff(drawn[:, 1])
    assert rises[0] == pytest.approx(rises[1], abs=1e-4)
    assert rises[2] / rises[0] == pytest.approx(np.log10(1 / 0.7), abs=1e-4)
    assert {"0.01", "0.02", "0.05", "0.5"} <= set(svg_texts(path))
    # An error of zero is no small error: it is hollow, and at a tick that says so.
    assert "0" in svg_texts(path)
    ((zero,),) = line(path, 0, kind="zero")
    assert zero == pytest.approx(drawn[3], abs=1e-4)
    draw_curve({"none wrong": [("a", 0.0, 0.0)]}, path, log=True)
    draw_curve({"test": [("a", 0.9, None), ("b", 0.001, None)]}, path, log=True)
    assert "0" not in svg_texts(path)


def test_lines_join_only_taps_between_which_data_flow(tmp_path):
    path = tmp_path / "curve.svg"
    taps = ["x", "forward", "backward", "both", "logits"]
    links = {("x", "forward"), ("x", "backward"), ("forward", "both"), ("backward", "both")}
    points = [(tap, 0.5 - 0.1 * i, 0.01) for i, tap in enumerate(taps)]
    draw_curve({"a": points, "b": points[:2]}, path, links={*links, ("both", "logits")})
    assert [len(run) for run in line(path, 0)] == [2, 3]
    assert [len(run) for run in line(path, 1)] == [2]
    draw_curve({"a": points}, path)
    assert [len(run) for run in line(path, 0)] == [5]


def test_each_label_set_has_its_own_commonest_class(tmp_path, svg_texts):
    path = tmp_path / "curve.svg"
    points = [("a", 0.6, None), ("b", 0.2, None)]
    draw_curve({"digit": points, "odd": points}, path, chance={"digit": 0.9, "odd": 0.5})
    said = {f"{name}: always the commonest class" for name in ("digit", "odd")}
    assert said <= set(svg_texts(path))
    assert "always the commonest class" not in svg_texts(path)


def test_a_logarithmic_axis_reaches_down_to_the_models_own_error(tmp_path):
    path = tmp_path / "curve.svg"
    draw_curve({"test": [("a", 0.9, None), ("b", 0.09, None)]}, path, reference=0.001, log=True)
    root = ElementTree.parse(path).getroot()
    (area,) = (group for group in root.iter(f"{SVG}g") if group.get("id") == "patch_2")
    foot = max(map(float, re.findall(r"[-\d.]+", area.find(f"{SVG}path").get("d"))[1::2]))
    (level,) = (
        float(shape.get("d").split()[2])
        for shape in root.iter(f"{SVG}path")
        if shape.get("d", "").count("L") == 1
        and "clip-path" in shape.attrib
        and "stroke-dasharray" in shape.get("style", "")
    )
    assert level < foot


def test_a_curve_has_gaps_where_nothing_was_measured(tmp_path):
    path = tmp_path / "curve.svg"
    errors = [0.9, 0.8, None, 0.5, float("nan"), 0.3, 0.2]
    draw_curve({"test": [(f"{i}", error, None) for i, error in enumerate(errors)]}, path)
    assert [len(run) for run in line(path, 0)] == [2, 1, 2]


def test_series_with_different_taps_stand_at_the_same_depths(tmp_path, svg_texts):
    path = tmp_path / "curve.svg"
    full = [(name, 0.5, None) for name in "abde"]
    other = [(name, 0.4, None) for name in "bcef"]
    draw_curve({"full": full, "other": other}, path)
    texts = [text for text in svg_texts(path) if text in set("abcdef")]
    assert texts == list("abcdef")
    x = dict(zip("abde", line(path, 0)[0][:, 0], strict=True))
    y = dict(zip("bcef", line(path, 1)[0][:, 0], strict=True))
    assert (x["b"], x["e"]) == (y["b"], y["e"])
    assert y["b"] < y["c"] < y["e"] < y["f"]


def test_names_of_deep_networks_are_thinned_out_but_for_the_ends(tmp_path, svg_texts):
    path = tmp_path / "curve.svg"
    draw_curve({"test": [(f"dense_{i}", 0.5, 0.1) for i in range(150)]}, path)
    shown = [int(text[6:]) for text in svg_texts(path) if text.startswith("dense_")]
    assert shown[0] == 0
    assert shown[-1] == 149
    assert 40 < len(shown) < 90
    assert set(np.diff(shown)) <= {2, 3}


@pytest.mark.parametrize("count", [1, 8, 30])
def test_any_number_of_series_has_its_color_and_its_name(tmp_path, count, svg_texts):
    path = tmp_path / "curve.svg"
    draw_curve({step: [("a", 0.5, None), ("b", 0.4, None)] for step in range(count)}, path)
    text = path.read_text()
    strokes = {
        re.search(rf'id="series-{i}">\s*<path [^>]*stroke: (#\w+)', text)[1] for i in range(count)
    }
    assert len(strokes) == count
    assert {str(step) for step in range(count)} <= set(svg_texts(path))


def test_a_series_of_one_point_works(tmp_path):
    path = tmp_path / "curve.png"
    draw_curve({"test": [("logits", 0.2, 0.01)]}, path, reference=0.1)
    pixels = image.imread(path)
    assert pixels.shape[:2] == (600, 780)
    assert (pixels[..., :3] < 0.9).any(axis=-1).sum() > 1000


@pytest.mark.parametrize(
    ("series", "match"),
    [
        ({}, "`series` must be at least one series"),
        ({"test": []}, r"`series\['test'\]` must be at least one point"),
        ({"test": [("a", 0.1, None)] * 2}, r"`series\['test'\]` must be each tap once.*'a' twice"),
    ],
)
def test_errors_of_the_curve(tmp_path, series, match):
    with pytest.raises(ValueError, match=match):
        draw_curve(series, tmp_path / "curve.svg")
    assert not list(tmp_path.iterdir())
