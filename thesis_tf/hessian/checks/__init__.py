"""Tests of a model's derivatives before any long work."""
