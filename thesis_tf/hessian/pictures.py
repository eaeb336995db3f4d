"""The figures of chapter 11, from the results of this area to files."""

import numpy as np
from matplotlib import ticker

from thesis_tf import _checks
from thesis_tf._figures import (
    FONT,
    GRID,
    INK,
    LINE,
    SOFT,
    add_legend,
    checked_path,
    clean,
    new_sheet,
    save,
    style_axes,
)

# Two of Okabe and Ito's colours, which stay apart for colour-blind readers.
UPPER, LOWER = "#d55e00", "#0072b2"


def draw_eigenvalues(pairs, path, *, density=None, title=None):
    """Draws the eigenvalues at both ends by rank, and the density of all if it is known.

    Args:
        pairs: `Eigenpairs`; those that have not converged are drawn hollow.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        density: a `SpectralDensity`, drawn beside with a band of two standard errors.
        title: a heading.
    """
    path = checked_path(path)
    sheet = new_sheet(9 if density is not None else 5.2)
    panels = sheet.subplots(1, 2 if density is not None else 1, squeeze=False)[0]
    axes = panels[0]
    style_axes(axes, "rank from its end", "eigenvalue", title)
    values, converged, k = pairs.values, pairs.converged, pairs.smallest
    for color, end, good, label in (
        (UPPER, values[k:][::-1], converged[k:][::-1], "largest"),
        (LOWER, values[:k], converged[:k], "smallest"),
    ):
        ranks = np.arange(1, len(end) + 1)
        axes.vlines(ranks, 0, end, color=color, linewidth=1)
        fills = np.where(good, color, "white")
        axes.scatter(ranks, end, s=26, c=fills, edgecolors=color, zorder=3, label=label)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    add_legend(axes)
    if density is not None:
        axes = panels[1]
        style_axes(axes, "eigenvalue", "density")
        floor = 1e-9 / max(np.ptp(density.grid), 1e-300)
        axes.set_yscale("log", nonpositive="clip")
        band = 2 * density.standard_error
        # Its lower edge is no lower than a tenth, or a logarithmic axis would tear it apart.
        low = np.maximum(density.density - band, density.density / 10)
        low, high = (np.maximum(edge, floor) for edge in (low, density.density + band))
        axes.fill_between(density.grid, low, high, color=GRID)
        axes.plot(density.grid, np.maximum(density.density, floor), color=INK, linewidth=1)
        axes.set_ylim(bottom=floor)
    save(sheet, path)


def draw_line_searches(searches, path, *, title=None):
    """Draws the loss along directions beside its quadratic model (figures 11.1 and 11.2).

    Args:
        searches: {label: `LineSearch`}, a panel each.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    if not searches:
        raise _checks.invalid("`searches`", "at least one line search", "none")
    sheet = new_sheet(3.6 * len(searches), 3.4)
    panels = sheet.subplots(1, len(searches), squeeze=False)[0]
    for axes, (label, search) in zip(panels, searches.items(), strict=True):
        style_axes(axes, "step size alpha", "loss", f"{label}: lambda = {search.curvature:.4g}")
        finite = search.loss[np.isfinite(search.loss)]
        room = 0.15 * max(np.ptp([*finite, search.start]), 1e-12)
        axes.plot(search.alphas, search.loss, color=INK, linewidth=1.6, label="loss")
        fine = np.linspace(min(search.alphas), max(search.alphas), 200)
        quadratic = search.start + search.slope**2 * (fine**2 * search.curvature / 2 - fine)
        axes.plot(fine, quadratic, color=UPPER, linestyle="--", label="quadratic")
        # The quadratic model may leave the picture; the loss may not.
        axes.set_ylim(min([*finite, search.start]) - room, max([*finite, search.start]) + room)
        if min(search.alphas) <= search.optimum <= max(search.alphas):
            axes.axvline(search.optimum, color=LOWER, linestyle=":", label="1 / lambda")
        axes.axvline(0, color=LINE, linewidth=0.8)
        add_legend(axes)
    if title:
        sheet.suptitle(clean(title), family=FONT, fontsize=10, color=INK, parse_math=False)
    save(sheet, path)


def draw_best_steps(values, steps, path, *, title=None):
    """Draws what the best step along each eigenvector brings (figures 11.3 and 11.4).

    On the left the decrease of the loss against the eigenvalue; on the right 1 / |alpha*| against
    |lambda|, with the line on which the quadratic model's optimum lies (Eq 11.2).

    Args:
        values: (k,) eigenvalues.
        steps: k `BestStep`s along their eigenvectors.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    values = np.asarray(values)
    if not len(values) or len(values) != len(steps):
        received = f"{len(values)} and {len(steps)}"
        raise _checks.invalid("`values` and `steps`", "of one length, not 0", received)
    sheet = new_sheet(9)
    left, right = sheet.subplots(1, 2)
    style_axes(left, "eigenvalue", "decrease of the loss by the best step", title)
    style_axes(right, "|eigenvalue|", "1 / |alpha*|")
    for color, chosen, label in (
        (UPPER, values > 0, "positive curvature"),
        (LOWER, values <= 0, "negative curvature"),
    ):
        decrease = np.array([step.decrease for step in steps])[chosen]
        left.scatter(values[chosen], decrease, s=26, color=color, label=label, clip_on=False)
        alphas = np.array([abs(step.alpha) for step in steps])[chosen]
        moved = np.isfinite(alphas) & (alphas > 0)
        right.scatter(abs(values[chosen][moved]), 1 / alphas[moved], s=26, color=color, label=label)
    left.axvline(0, color=LINE, linewidth=0.8)
    left.set_ylim(bottom=0)
    right.set_xscale("log")
    right.set_yscale("log")
    ends = np.array([abs(values[values != 0]).min(), abs(values).max()]) if values.any() else [1, 1]
    right.plot(ends, ends, color=SOFT, linestyle="--", label="1 / alpha = lambda (Eq 11.2)")
    add_legend(left)
    add_legend(right)
    save(sheet, path)


def draw_history(history, path, *, title=None):
    """Draws eigenvalues and loss over training steps (figures 11.5 and 11.6).

    Args:
        history: a `SpectrumHistory`, or its entries.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    entries = getattr(history, "entries", history)
    if not entries:
        raise _checks.invalid("`history`", "at least one entry", "none")
    steps = [entry["step"] for entry in entries]
    sheet = new_sheet(7.5, 5.4)
    upper, middle, lower = sheet.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 2, 2)}
    )
    style_axes(upper, "", "largest", title)
    style_axes(middle, "", "smallest")
    style_axes(lower, "training step", "loss")
    for axes, end, color in ((upper, "largest", UPPER), (middle, "smallest", LOWER)):
        values = np.array([entry[end] for entry in entries])
        for rank in range(values.shape[1]):
            style = {"linewidth": 1.6} if rank == 0 else {"linewidth": 0.7, "alpha": 0.7}
            axes.plot(steps, values[:, rank], color=color, marker="o", markersize=2, **style)
        axes.axhline(0, color=LINE, linewidth=0.8)
    losses = [entry["loss"] for entry in entries]
    lower.plot(steps, losses, color=INK, marker="o", markersize=3)
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        lower.set_yscale("log")
        lower.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        lower.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        lower.set_ylim(bottom=min(0, *losses))
    if len(steps) > 2 and max(steps) >= 10 * max(1, sorted(steps)[1]):
        # Checkpoints crowd at the start: even room for each decade, and for step 0.
        linear = max(1, sorted(steps)[1])
        lower.set_xscale("symlog", linthresh=linear)
        lower.set_xlim(min(steps) - 0.1 * linear, 1.2 * max(steps))
        lower.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    save(sheet, path)
