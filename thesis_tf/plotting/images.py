"""Sheets of images, row by row."""

from collections.abc import Mapping

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from thesis_tf._core.types import ArrayLike, Path
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
            other values are clipped.
        path: a file that ends in .png, .svg or .pdf; an older one is replaced.
        columns: the maximum number of images in a row; a name with more images has several rows,
            which are labeled by the numbers of their images.
        title: a heading.
    """
    path = checked_path(path)
    lines = []
    for name, given in rows.items():
        images = np.clip(np.asarray(given, np.float64), 0, 1)
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
