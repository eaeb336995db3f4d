"""Shared by the programs: configs with their flags, output folders, training."""
