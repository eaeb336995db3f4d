"""Output for users: progress bars, TensorBoard, tables."""
