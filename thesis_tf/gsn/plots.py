"""Plots of chapter 5: functions that draw results of `thesis_tf.gsn` to files."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import ticker

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike, Path
from thesis_tf.gsn.inpainting import Inpainting
from thesis_tf.plotting.images import draw_images
from thesis_tf.plotting.style import (
    BLUE,
    CATEGORICAL,
    INK,
    LINE,
    VERMILION,
    add_legend,
    checked_path,
    new_figure,
    save,
    style_axes,
)

DATA, CHAIN, EXACT = BLUE, VERMILION, INK


def draw_chain_images(
    images: ArrayLike, path: Path, *, chains: int = 10, columns: int = 20, title: str | None = None
) -> None:
    """Draws images of consecutive states of chains, one row per chain (figures 5.4 and 5.6).

    Args:
        images: (steps, chains, height, width) or (steps, chains, height, width, channels), such as
            E[x | h] of each state, or the samples of `Chains`.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        chains: the maximum number of chains.
        columns: the number of states of each chain, from the first one on.
        title: a heading.
    """
    images = np.asarray(images)
    if images.ndim not in (4, 5):
        expected = "images (steps, chains, height, width[, channels])"
        raise checks.invalid("`images`", expected, f"shape {images.shape}")
    rows = {f"chain {i + 1}": images[:columns, i] for i in range(min(chains, images.shape[1]))}
    draw_images(rows, path, columns=min(columns, len(images)), title=title)


def draw_inpainting(
    result: Inpainting, path: Path, *, unknown: float = 0.5, title: str | None = None
) -> None:
    """Draws known parts of images, their completions, and the complete images (figure 5.6).

    Args:
        result: the `Inpainting` of images (n, height, width[, channels]).
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        unknown: the gray level with which unknown pixels are drawn.
        title: a heading.
    """
    rows = {"known": np.where(result.mask, result.truth, unknown)}
    rows |= {f"run {i + 1}": images for i, images in enumerate(result.completions)}
    draw_images({**rows, "truth": result.truth}, path, columns=len(result.truth), title=title)


def draw_scaling(factors: Mapping[str, Array], path: Path, *, title: str | None = None) -> None:
    """Draws scaling factors alpha_k against the step of walkback k (figure 5.9).

    Args:
        factors: {name: (k,) array}.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        title: a heading.
    """
    path = checked_path(path)
    figure = new_figure(4.6, 3.4)
    axes = figure.subplots()
    style_axes(axes, "step of walkback k", "scaling factor", title=title)
    axes.axhline(1, color=LINE, linewidth=0.8)
    # When colors are used up, they begin again with other lines.
    looks = ((color, line) for line in ("-", "--", ":", "-.") for color in CATEGORICAL)
    for (color, line), (name, alphas) in zip(itertools.cycle(looks), factors.items(), strict=False):
        steps = np.arange(1, len(alphas) + 1)
        axes.plot(steps, alphas, line, color=color, marker="o", markersize=4, label=name)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    add_legend(axes)
    save(figure, path)


def draw_histograms(
    histograms: Mapping[str, Array],
    path: Path,
    *,
    errors: Mapping[str, Array] | None = None,
    truth: ArrayLike | None = None,
    title: str | None = None,
) -> None:
    """Draws histograms over the same discrete states side by side (figure 5.3).

    Args:
        histograms: {name: (states,) fractions}, two at most.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        errors: {name: (states,)} standard errors, drawn as bars of two standard errors each way.
        truth: (states,) probabilities, drawn as markers.
        title: a heading.

    Raises:
        ValueError: there are no histograms, or more than two.
    """
    if not 1 <= len(histograms) <= 2:
        raise checks.invalid("`histograms`", "one or two histograms", f"{len(histograms)}")
    path = checked_path(path)
    figure = new_figure(5.6, 3.4)
    axes = figure.subplots()
    style_axes(axes, "state", "fraction", title=title)
    width = 0.8 / len(histograms)
    for number, (color, (name, fractions)) in enumerate(
        zip((DATA, CHAIN), histograms.items(), strict=False)
    ):
        places = np.arange(len(fractions)) + (number + 0.5) * width - 0.4
        bars: dict[str, Any] = {}
        if errors is not None and name in errors:
            bars["yerr"] = 2 * np.asarray(errors[name])
        axes.bar(places, fractions, width * 0.95, color=color, label=name, ecolor=INK, **bars)
    if truth is not None:
        expected = np.asarray(truth)
        axes.scatter(
            np.arange(len(expected)),
            expected,
            s=260,
            marker="_",
            color=EXACT,
            label="truth",
            zorder=4,
        )
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    add_legend(axes)
    save(figure, path)
