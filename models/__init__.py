"""Functions that build the thesis' Keras networks, by name; they implement no algorithms."""

from models.autoencoder import TiedAutoEncoder, autoencoder, tied_autoencoder
from models.registry import NAMES, build

__all__ = ["NAMES", "TiedAutoEncoder", "autoencoder", "build", "tied_autoencoder"]
