"""Arguments, seeds, progress bars, tables: what every area uses and nobody outside does."""
