"""What people see of work and results: progress bars, TensorBoard, tables."""
