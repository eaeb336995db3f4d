"""What a model does while it is traced: its functions, its states, the order of time, float64."""
