"""Folders of images, and the decoding of one image."""
