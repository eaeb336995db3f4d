"""Self-checks of a model's derivatives before long computations."""
