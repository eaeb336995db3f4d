"""The figures of chapter 7: training curves over runs, and square roots of traces."""

import itertools

import numpy as np
from matplotlib import figure, ticker

from thesis_tf._core import checks
from thesis_tf.plotting.style import FONT, INK, add_legend, checked_path, clean, save, style_axes

# Okabe and Ito's colours, which stay apart for colour-blind readers.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
COLUMNS = {
    "loss": "training loss",
    "train_error": "training error",
    "validation_error": "validation error",
    "test_error": "test error",
}
AXES = {0: "steps", 1: "seconds"}


def draw_training(runs, path, *, columns=None, title=None):
    """Draws training curves as median and quartiles over runs (figures 7.2 and 7.3).

    Args:
        runs: {label: [`History`, ...]}, the runs of one setting with several seeds.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        columns: {name in the records: label of its axis}; those without values are left out.
        title: a heading.
    """
    path = checked_path(path)
    everything = [h for several in runs.values() for h in several]
    columns = {n: text for n, text in (columns or COLUMNS).items() if _have(everything, n)}
    if not columns:
        raise checks.invalid("`runs`", "runs with records", "none that has any")
    sheet = figure.Figure(figsize=(4.2 * len(columns), 6.2), layout="constrained")
    sheet.set_facecolor("white")
    panels = sheet.subplots(2, len(columns), squeeze=False)
    for row, (column, text) in itertools.product(AXES, enumerate(columns.items())):
        axes, (name, label) = panels[row][column], text
        style_axes(axes, AXES[row], label)
        for color, (run, several) in zip(itertools.cycle(COLORS), runs.items(), strict=False):
            _draw_quartiles(axes, [h.column(name) for h in several], row, clean(run), color)
        _make_logarithmic(axes)
    if len(runs) > 1:
        _legend(panels[0][0], max(map(len, runs.values())))
    if title:
        sheet.suptitle(clean(title), fontsize=11, family=FONT, color=INK, parse_math=False)
    save(sheet, path)


def draw_traces(histories, path, *, title=None):
    """Draws square roots of Tr Sigma(q), medians over runs (figure 7.4).

    Args:
        histories: `History`s whose records have traces, or lists of such records.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    records = [getattr(h, "records", h) for h in histories]
    names = dict.fromkeys(k for rs in records for r in rs for k in r if k.startswith("trace_"))
    if not names:
        raise checks.invalid("`histories`", "records with traces", "none")
    sheet = figure.Figure(figsize=(7.2, 3.8), layout="constrained")
    sheet.set_facecolor("white")
    axes = sheet.subplots()
    with_traces = [r for rs in records for r in rs if names.keys() & r.keys()]
    exact = all("true_gradient_squared" in r for r in with_traces)
    style_axes(axes, "steps", "√ Tr Σ(q)" if exact else "√ Tr Σ(q), upper bound")
    for color, name in zip(itertools.cycle(COLORS), names, strict=False):
        curves = [
            [(r["step"], 0, max(r[name], 0) ** 0.5) for r in rs if name in r] for rs in records
        ]
        # The least there is often lies under another.
        style = "--" if name == "trace_ideal" else "-"
        _draw_quartiles(axes, curves, 0, name.removeprefix("trace_"), color, style)
    _make_logarithmic(axes)
    # Beside the curves, which can be anywhere.
    _legend(axes, len(records), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if title:
        axes.set_title(clean(title), fontsize=10, family=FONT, color=INK, parse_math=False)
    save(sheet, path)


def _make_logarithmic(axes):
    """Where values are above 0 and more than a factor of 3 apart; nothing is gained below that."""
    low, high = axes.dataLim.intervaly
    if not 0 < 3 * low < high:
        return
    axes.set_yscale("log")
    # Over several decades there is no room for numbers between their beginnings.
    steps = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _have(histories, name):
    return any(history.column(name) for history in histories)


def _draw_quartiles(axes, curves, x, label, color, style="-"):
    """Draws the median of curves [(step, seconds, value), ...], with their quartiles as a band."""
    curves = [np.array(curve, float) for curve in curves if len(curve)]
    if not curves:
        return
    # Where all of them are known, which can be one place.
    end = min(curve[-1, x] for curve in curves)
    start = min(max(curve[0, x] for curve in curves), end)
    # Nothing but what was recorded: between, lines are straight whatever the axis' scale is.
    grid = np.unique(np.concatenate([[start, end], *(curve[:, x] for curve in curves)]))
    grid = grid[(start <= grid) & (grid <= end)]
    values = np.stack([np.interp(grid, curve[:, x], curve[:, 2]) for curve in curves])
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    if len(curves) > 1:
        axes.fill_between(grid, low, high, color=color, alpha=0.2, linewidth=0)
    marker = "o" if len(grid) == 1 else None
    axes.plot(grid, middle, style, color=color, linewidth=1.5, marker=marker, label=label)


def _legend(axes, count, **place):
    heading = f"medians and quartiles\nof {count} runs" if count > 1 else None
    add_legend(axes, heading, **place)
