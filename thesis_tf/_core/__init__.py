"""Private modules that every area uses: argument checks, seeds, arrays, types, SavedModels."""
