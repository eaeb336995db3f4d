"""Runs, caches and reports the figures of `bin/reproduction/chapters`."""
