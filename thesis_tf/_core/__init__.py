"""Checks of arguments, arrays and seeds: what every area uses and nobody outside does."""
