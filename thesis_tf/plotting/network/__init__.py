"""Diagrams of a network: a layered layout, and its placement on a page."""
