"""Shared by all figures: text with any characters, and files without leftovers."""

import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from matplotlib import figure
from matplotlib.backends import backend_agg

from thesis_tf.plotting import style as figures

TITLE = "{http://www.w3.org/2000/svg}title"


def sheet():
    drawn = figure.Figure(figsize=(2, 1))
    axes = drawn.add_axes((0, 0, 1, 1), xlim=(0, 144), ylim=(72, 0))
    figures.draw_text(axes, 72, 36, "$a$ <b>", 8, gid="here")
    return drawn


def test_tooltips_go_to_the_artists_of_their_ids(tmp_path):
    figures.save(sheet(), tmp_path / "a.svg", tooltips={"here": "a < b\x00", "nowhere": "?"})
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    found = {group.get("id"): group.find(TITLE) for group in root.iter()}
    titled = {key: title.text for key, title in found.items() if title is not None}
    assert titled == {"here": "a < b\ufffd"}
    assert "$a$ <b>" in "".join(root.itertext())  # neither mathematics nor XML


def test_an_error_leaves_the_settings_and_the_older_file(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("older")
    before = dict(matplotlib.rcParams)
    drawn = sheet()
    drawn.text(0.5, 0.5, r"$\frac$")
    with pytest.raises(ValueError, match="frac"):
        figures.save(drawn, path)
    assert dict(matplotlib.rcParams) == before
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["conv2_block1_add", "il", "$x$", "σ_слой"])
def test_text_is_as_wide_as_matplotlib_draws_it(text):
    drawn = figure.Figure(dpi=720)
    axes = drawn.add_subplot()
    figures.draw_text(axes, 0, 0, text, 8)
    renderer = backend_agg.FigureCanvasAgg(drawn).get_renderer()
    width = axes.texts[0].get_window_extent(renderer).width / 10
    # The drawn width is rounded to whole pixels, ten of which are a point.
    assert figures.text_width(text, 8) == pytest.approx(width, abs=0.5)


def test_long_names_lose_their_middle():
    assert figures.shortened("a\n b  c") == "a b c"
    assert figures.shortened("x" * 28) == "x" * 28
    assert figures.shortened("first/" + "x" * 60 + "/last") == f"first/{'x' * 8}…{'x' * 8}/last"


@pytest.mark.parametrize("name", ["a", "a.jpg", "a.svgz", ".svg"])
def test_other_suffixes_are_errors(name):
    match = r"`path` must be a file that ends in \.png, \.svg, \.pdf\. Received: "
    with pytest.raises(ValueError, match=match):
        figures.checked_path(name)
