"""Figures of images, and what figures of all areas share: colors, axes, network diagrams."""

from thesis_tf.plotting.images import draw_images

__all__ = ["draw_images"]
