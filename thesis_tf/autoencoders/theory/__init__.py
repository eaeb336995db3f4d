"""Exact solutions in one dimension, and local moments."""
