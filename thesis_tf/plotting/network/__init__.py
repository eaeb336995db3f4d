"""Diagrams of a network: a layered layout, and its placement in a figure."""
