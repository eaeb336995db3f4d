"""Files of runs: atomic writing, arrays, checkpoints, locks, fingerprints."""
