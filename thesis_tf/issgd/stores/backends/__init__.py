"""The backends, which keep the data of a store."""
