"""Colors, axes, sheets of images and network diagrams."""
