"""Long computations that figures of chapter 7 share."""
