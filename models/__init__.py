"""Keras builders of the networks in the thesis, by name. They hold no algorithms."""

from models.registry import NAMES, build

__all__ = ["NAMES", "build"]
