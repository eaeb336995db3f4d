"""Features of every tap, extracted to a store on disk."""
