"""The implementation of `bin.dae`: fits an auto-encoder and measures the density it implies."""
