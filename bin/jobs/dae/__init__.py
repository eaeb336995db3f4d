"""What `bin.dae` does: fits an auto-encoder, and measures the density that it implies."""
