"""Where a store keeps its data."""
