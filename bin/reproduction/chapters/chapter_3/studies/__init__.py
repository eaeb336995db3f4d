"""Long computations that figures of chapter 3 share."""
