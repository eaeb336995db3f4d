"""What the programs share: configs with their flags, output folders, training."""
