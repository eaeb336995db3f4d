"""Keras builders of the networks in the thesis, by name. They hold no algorithms."""

from models.autoencoder import TiedAutoEncoder, autoencoder, tied_autoencoder
from models.registry import NAMES, build

__all__ = ["NAMES", "TiedAutoEncoder", "autoencoder", "build", "tied_autoencoder"]
