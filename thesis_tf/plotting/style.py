"""What all pictures share: inks, a font, text of any content, and files that stay the same.

Nothing here uses pyplot or leaves a setting changed, so pictures may be drawn in threads and
without a display, and the same numbers always give the same bytes.
"""

import contextlib
import math
import pathlib
import re
import threading
import xml.etree.ElementTree as ElementTree

import matplotlib
from matplotlib import figure, textpath
from matplotlib.font_manager import FontProperties

from thesis_tf._core import checks
from thesis_tf.persistence import files

FONT = "DejaVu Sans"  # comes with matplotlib, so a picture is the same everywhere

# Text and curves of what is exact; notes; axes and references; grids and edges; what is missing.
INK, SOFT, LINE, GRID, BLANK = "#24292f", "#57606a", "#a3abb4", "#e6e8eb", "#d5d7da"
# Okabe and Ito's colors, which stay apart for color-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, ORANGE, GRAY = "#56b4e9", "#e69f00", "#4d4d4d"
# Of several series, in this order.
CATEGORICAL = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, GRAY)
# Of two opposites: negative and positive, smallest and largest.
DIVERGING = (BLUE, VERMILION)
# Of a magnitude, matplotlib's name: dark is large.
SEQUENTIAL = "viridis_r"
# Good to bad: the hue goes from blue through green and yellow to red and never turns back.
GOOD_TO_BAD = ("#2b62b5", "#2a9aa8", "#4fae62", "#b5c94a", "#f2b33d", "#e8743a", "#cf2f2a")

_SUFFIXES = (".png", ".svg", ".pdf")
_DPI = 150
# What matplotlib takes from its global settings alone: text that stays text, the same ids at
# every run, and fonts that journals accept.
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "thesis_tf", "pdf.fonttype": 42}
# No date, so that the same numbers give the same file.
_METADATA = {
    ".svg": dict.fromkeys(["Date", "Creator", "Format", "Type"]),
    ".pdf": {"CreationDate": None},
}
_LOCK = threading.Lock()


def checked_path(path):
    """Returns the path of a picture; raises ValueError if matplotlib should not write its kind."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        expected = f"a file that ends in {', '.join(_SUFFIXES)}"
        raise checks.invalid("`path`", expected, repr(str(path)))
    return path


def save(page, path, tooltips=None):
    """Writes a matplotlib Figure, atomically.

    Args:
        page: a `matplotlib.figure.Figure`.
        path: what `checked_path` returned.
        tooltips: {gid: text}, shown in an SVG where a reader points at the artist of that gid.
    """
    suffix = path.suffix.lower()
    with files.atomic(path) as partial, _settings():
        page.savefig(partial, format=suffix[1:], dpi=_DPI, metadata=_METADATA.get(suffix))
        if suffix == ".svg":
            _add_tooltips(partial, tooltips or {})


def new_sheet(width, height=3.6):
    """Returns a white matplotlib Figure of so many inches, whose parts find room by themselves."""
    page = figure.Figure(figsize=(width, height), facecolor="white", layout="constrained")
    page.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    return page


def style_axes(axes, xlabel, ylabel, title=None):
    """Gives axes labels, a light grid, and lines on the left and below alone."""
    text = {"family": FONT, "fontsize": 9, "color": INK, "parse_math": False}
    axes.set_xlabel(clean(xlabel), **text)
    axes.set_ylabel(clean(ylabel), **text)
    if title:
        axes.set_title(clean(title), loc="left", **{**text, "fontsize": 10})
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.tick_params(which="both", colors=SOFT, labelsize=8)


def add_legend(axes, heading=None, **place):
    """Adds a legend of what is labelled, without a frame; `place` is matplotlib's own."""
    font = {"family": FONT, "size": 8}
    legend = axes.legend(
        frameon=False,
        prop=font,
        labelcolor=SOFT,
        title=heading,
        title_fontproperties=font,
        alignment="left",
        **place,
    )
    legend.get_title().set_color(SOFT)
    for text in legend.get_texts():
        text.set_parse_math(False)


def draw_text(axes, x, y, text, size, color=INK, **rest):
    """Adds text to axes, centred on (x, y) unless `rest`, matplotlib's own settings, says else."""
    style = {"ha": "center", "va": "center", "family": FONT, "parse_math": False, "zorder": 4}
    axes.text(x, y, clean(text), fontsize=size, color=color, **{**style, **rest})


def text_width(text, size):
    """Returns the width of a line of text in points."""
    font = FontProperties(family=FONT, size=size)
    return textpath.text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def shortened(name, most=28):
    """Returns a name in one line of at most `most` characters, its middle left out if need be."""
    name = clean(" ".join(name.split()))
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def clean(text):
    """Replaces what XML cannot hold: control characters and halves of surrogate pairs."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def merged(lists):
    """Returns the names of all lists, each where it follows what it follows in its own list."""
    order = []
    for names in lists:
        place = 0
        for name in names:
            if name in order:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def missing(value):
    """Whether nothing was measured: None or NaN."""
    return value is None or math.isnan(value)


@contextlib.contextmanager
def _settings():
    # matplotlib's rc_context would also undo what other threads set in the meantime.
    with _LOCK:
        before = {key: matplotlib.rcParams[key] for key in _SETTINGS}
        matplotlib.rcParams.update(_SETTINGS)
        try:
            yield
        finally:
            matplotlib.rcParams.update(before)


def _add_tooltips(path, tooltips):
    """Gives the SVG elements with these ids a <title>, which browsers show as a tooltip."""
    svg, xlink = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    root = ElementTree.parse(path).getroot()
    for element in list(root.iter()):
        # ElementTree's own prefixes are ns0 and ns1 unless one registers others process-wide.
        element.tag = element.tag.removeprefix(f"{{{svg}}}")
        element.attrib = {
            key.replace(f"{{{xlink}}}", "xlink:"): value for key, value in element.attrib.items()
        }
        if element.get("id") in tooltips:
            tooltip = ElementTree.Element("title")
            tooltip.text = clean(tooltips[element.get("id")])
            element.insert(0, tooltip)
    root.attrib = {"xmlns": svg, "xmlns:xlink": xlink, **root.attrib}
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
