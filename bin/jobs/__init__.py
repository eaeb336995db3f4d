"""The implementations of the programs."""
