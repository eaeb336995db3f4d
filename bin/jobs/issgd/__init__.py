"""The implementations of the importance-sampling programs."""
