"""Long computations that figures of chapter 5 share."""
