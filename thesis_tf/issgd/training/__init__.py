"""Training loops: trainer, master, peer and worker."""
