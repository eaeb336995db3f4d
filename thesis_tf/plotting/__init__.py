"""Figures of images, and code for figures of all areas: colors, axes, network diagrams."""

from thesis_tf.plotting.images import draw_images

__all__ = ["draw_images"]
