"""Long computations that figures of chapter 9 share."""
