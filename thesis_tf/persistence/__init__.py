"""What runs keep on disk: files written atomically, fingerprints of inputs, checkpoints."""
