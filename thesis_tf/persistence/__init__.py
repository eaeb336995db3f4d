"""What runs keep on disk: files written atomically, arrays, checkpoints, locks, fingerprints."""
