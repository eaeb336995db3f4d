"""What runs, caches and reports the figures of `bin/figures`; `bin.reproduce` is its program."""
