"""Shared by all figures: colors, a font, text with any characters, and reproducible files.

Nothing here uses pyplot or leaves a setting changed. So figures can be drawn in threads and without
a display, and the same numbers always give the same bytes.
"""

import contextlib
import pathlib
import re
import textwrap
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import matplotlib
from matplotlib import textpath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from thesis_tf._core import checks
from thesis_tf._core.types import Path
from thesis_tf.persistence import files

FONT = "DejaVu Sans"  # comes with matplotlib, so a figure is the same everywhere

# Text and exact curves; notes; axes and references; grids and edges; missing values.
INK, SOFT, LINE, GRID, BLANK = "#24292f", "#57606a", "#a3abb4", "#e6e8eb", "#d5d7da"
# Okabe and Ito's colors, which color-blind readers can distinguish.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, ORANGE, GRAY = "#56b4e9", "#e69f00", "#4d4d4d"
# Colors of several series, in this order.
CATEGORICAL = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, GRAY)
# Colors of two opposites: negative and positive, smallest and largest.
DIVERGING = (BLUE, VERMILION)
# matplotlib's color map for a magnitude: dark is large.
SEQUENTIAL = "viridis_r"
# From good to bad: the hue changes from blue through green and yellow to red.
GOOD_TO_BAD = ("#2b62b5", "#2a9aa8", "#4fae62", "#b5c94a", "#f2b33d", "#e8743a", "#cf2f2a")

_SUFFIXES = (".png", ".svg", ".pdf")
_DPI = 150
# matplotlib only has global settings for these: text that stays text, the same ids in every run,
# and fonts that journals accept.
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "thesis_tf",
    "pdf.fonttype": 42,
}
# No date, so that the same numbers give the same file.
_METADATA = {
    ".svg": dict.fromkeys(["Date", "Creator", "Format", "Type"]),
    ".pdf": {"CreationDate": None},
}
_LOCK = threading.Lock()


def checked_path(path: Path) -> pathlib.Path:
    """Returns the path of a figure; raises ValueError unless it ends in .png, .svg or .pdf."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        expected = f"a file that ends in {', '.join(_SUFFIXES)}"
        raise checks.invalid("`path`", expected, repr(str(path)))
    return path


def save(figure: Figure, path: pathlib.Path, *, tooltips: Mapping[str, str] | None = None) -> None:
    """Writes a figure, atomically.

    Args:
        figure: a `matplotlib.figure.Figure`.
        path: the result of `checked_path`.
        tooltips: {gid: text}; an SVG shows the text when a reader points at the artist of this gid.
    """
    suffix = path.suffix.lower()
    with files.atomic(path) as partial, _settings():
        figure.savefig(partial, format=suffix[1:], dpi=_DPI, metadata=_METADATA.get(suffix))
        if suffix == ".svg":
            _add_tooltips(partial, tooltips or {})


def new_figure(
    width: float, height: float = 3.6, *, w_pad: float = 0.08, h_pad: float = 0.06
) -> Figure:
    """Returns a white figure whose axes are laid out without overlaps.

    Args:
        width, height: the size in inches.
        w_pad, h_pad: the space around each axes, in inches.
    """
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=w_pad, h_pad=h_pad)  # type: ignore[union-attr, call-arg] # it is a ConstrainedLayoutEngine
    return figure


def style_axes(
    axes: Axes,
    xlabel: str,
    ylabel: str,
    *,
    title: str | None = None,
    size: float = 9,
    grid: Literal["both", "x", "y"] = "both",
) -> None:
    """Adds labels and a light grid to axes, and keeps only their left and lower spines.

    Args:
        axes: the axes.
        xlabel, ylabel: the labels.
        title: a heading of these axes.
        size: the size of the labels, in points.
        grid: the axis whose grid lines are drawn.
    """
    text: dict[str, Any] = {"family": FONT, "color": INK, "parse_math": False}
    axes.set_xlabel(clean(xlabel), fontsize=size, **text)
    axes.set_ylabel(clean(ylabel), fontsize=size, **text)
    if title:
        axes.set_title(clean(title), loc="left", fontsize=10, **text)
    axes.grid(axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.tick_params(which="both", colors=SOFT, labelsize=8)


def heading(title: str | None, warnings: Iterable[str], *, width: int = 80) -> str | None:
    """Returns a title with sentences below that say why not to trust what is drawn.

    Args:
        title: the title, or None.
        warnings: the sentences, such as the `warnings()` of a result.
        width: the number of characters after which a sentence continues in the next line.
    """
    lines = [line for sentence in warnings for line in textwrap.wrap(sentence, width)]
    return "\n".join([*([title] if title else []), *lines]) or None


def add_title(figure: Figure, title: str | None, *, size: float = 10, **place: Any) -> None:
    """Writes a title, unless it is None, above all axes.

    Args:
        figure: the figure.
        title: the title, or None.
        size: its size, in points.
        **place: other arguments of `matplotlib.figure.Figure.suptitle`.
    """
    if title:
        figure.suptitle(
            clean(title), fontsize=size, family=FONT, color=INK, parse_math=False, **place
        )


def add_legend(
    parent: Axes | Figure,
    *,
    heading: str | None = None,
    names: Sequence[str] | None = None,
    size: float = 8,
    color: str = SOFT,
    **place: Any,
) -> None:
    """Adds a legend without a frame.

    Args:
        parent: axes, or a figure.
        heading: the heading of the legend.
        names: the names of the entries, instead of the artists' labels. matplotlib leaves out
            artists whose labels begin with an underscore, so such names must be passed here.
        size: the size of the text, in points.
        color: the color of the text.
        **place: other arguments of `matplotlib.axes.Axes.legend`.
    """
    font = FontProperties(family=FONT, size=size)
    legend = parent.legend(
        frameon=False,
        prop=font,
        labelcolor=color,
        title=heading,
        title_fontproperties=font,
        alignment="left",
        **place,
    )
    legend.get_title().set_color(color)
    texts = legend.get_texts()
    for text, name in zip(texts, names or [text.get_text() for text in texts], strict=True):
        text.set(text=clean(name), parse_math=False)


def draw_text(
    axes: Axes, x: float, y: float, text: str, size: float, *, color: str = INK, **place: Any
) -> None:
    """Adds text to axes, by default centered on (x, y).

    Args:
        axes: the axes.
        x, y: where the text is.
        text: the text.
        size: its size, in points.
        color: its color.
        **place: other arguments of `matplotlib.axes.Axes.text`.
    """
    style: dict[str, Any] = {
        "ha": "center", "va": "center", "family": FONT, "parse_math": False, "zorder": 4,
    }  # fmt: skip
    axes.text(x, y, clean(text), fontsize=size, color=color, **{**style, **place})


def text_width(text: str, size: float) -> float:
    """Returns the width of a line of text in points."""
    font = FontProperties(family=FONT, size=size)
    return textpath.text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def shortened(name: str, *, most: int = 28) -> str:
    """Returns a name in one line of at most `most` characters, without the middle of a longer
    name."""
    name = clean(" ".join(name.split()))
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def clean(text: str) -> str:
    """Replaces characters that XML can't contain: control characters and unpaired surrogates."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    # matplotlib's rc_context would also undo changes that other threads make in the meantime.
    with _LOCK:
        before = {key: matplotlib.rcParams[key] for key in _SETTINGS}
        matplotlib.rcParams.update(_SETTINGS)
        try:
            yield
        finally:
            matplotlib.rcParams.update(before)


def _add_tooltips(path: pathlib.Path, tooltips: Mapping[str, str]) -> None:
    """Gives the SVG elements with these ids a <title>, which browsers show as a tooltip."""
    svg, xlink = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    root = ElementTree.parse(path).getroot()
    for element in list(root.iter()):
        # ElementTree writes the prefixes ns0 and ns1 unless others are registered globally.
        element.tag = element.tag.removeprefix(f"{{{svg}}}")
        element.attrib = {
            key.replace(f"{{{xlink}}}", "xlink:"): value for key, value in element.attrib.items()
        }
        text = tooltips.get(element.get("id", ""))
        if text is not None:
            tooltip = ElementTree.Element("title")
            tooltip.text = clean(text)
            element.insert(0, tooltip)
    root.attrib = {"xmlns": svg, "xmlns:xlink": xlink, **root.attrib}
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
