"""Markov chains of all areas."""
