"""Sheets of images, row by row."""

import warnings
from collections.abc import Mapping

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from thesis_tf._core import checks
from thesis_tf._core.types import Array, ArrayLike, Path
from thesis_tf.plotting.style import (
    FONT,
    INK,
    LINE,
    add_title,
    checked_path,
    clean,
    new_figure,
    save,
)


def draw_images(
    rows: Mapping[str, ArrayLike],
    path: Path,
    *,
    columns: int = 12,
    title: str | None = None,
) -> None:
    """Draws rows of images, each with a name, such as examples, reconstructions and samples.

    Each image has a thin frame, so that white ones can be seen.

    Args:
        rows: {name: (n, height, width) or (n, height, width, channels) array of values in [0, 1]};
            floats outside are clipped.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        columns: the maximum number of images in a row; a name with more images has several rows,
            which are labeled by the numbers of their images.
        title: a heading.

    Raises:
        ValueError: images have another shape or number of channels, are integers beyond [0, 1], or
            there are none.
        TypeError: they aren't real numbers.

    Warns:
        UserWarning: most pixels that aren't 0 are above 1, so that they may be in [0, 255].
    """
    path = checked_path(path)
    lines = []
    for name, given in rows.items():
        images = np.clip(_checked(name, given), 0, 1)
        images = images[..., np.newaxis] if images.ndim == 3 else images
        for start in range(0, len(images), columns):
            part = images[start : start + columns]
            numbers = f" {start + 1}–{start + len(part)}" if len(images) > columns else ""
            lines.append((name + numbers, part))
    head = 0.3 + 0.2 * len(title.split("\n")) if title else 0.2
    figure = new_figure(0.62 * columns + 1.3, 0.64 * len(lines) + head)
    panels = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(panels, lines, strict=True):
        strip = np.ones((images.shape[1], columns * (images.shape[2] + 1) - 1, images.shape[3]))
        height, width = images.shape[1:3]
        frames = []
        for index, image in enumerate(images):
            start = index * (width + 1)
            strip[:, start : start + width] = image
            frames.append(Rectangle((start - 0.5, -0.5), width, height))
        strip = strip[..., 0] if strip.shape[2] == 1 else strip[..., :3]
        axes.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.add_collection(
            PatchCollection(frames, facecolor="none", edgecolor=LINE, linewidth=0.5, clip_on=False)
        )
        axes.set_axis_off()
        axes.text(
            -0.01, 0.5, clean(name), transform=axes.transAxes, ha="right", va="center",
            fontsize=8, family=FONT, color=INK, parse_math=False,
        )  # fmt: skip
    add_title(figure, title)
    save(figure, path)


def _checked(name: str, given: ArrayLike) -> Array:
    """Returns images as float64; warns or raises if their values can't be in [0, 1]."""
    shown, images = f"The images {name!r}", checks.real_numbers(f"The images {name!r}", given)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        expected = "of shape (n, height, width[, channels]), with 1, 3 or 4 channels"
        raise checks.invalid(shown, expected, f"shape {images.shape}")
    if not images.size:
        raise checks.invalid(shown, "at least one image", f"shape {images.shape}")
    above, bright = np.count_nonzero(images > 1), np.count_nonzero(images > 0)
    advice = "Divide pixels in [0, 255] by 255."
    if above and np.asarray(given).dtype.kind in "iu":
        raise checks.invalid(shown, "values in [0, 1]", f"integers up to {images.max():g}", advice)
    if above > bright / 2:
        warnings.warn(
            f"{above} of {bright} pixels above 0 of the images {name!r} are above 1, the largest"
            f" {images.max():g}, and are drawn as 1. {advice}",
            stacklevel=3,
        )
    return images
