"""Figures of probes: error curves, and the network colored by its errors."""
