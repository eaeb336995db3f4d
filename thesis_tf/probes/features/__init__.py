"""Extraction of the features of every tap to a store on disk."""
