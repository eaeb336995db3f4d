"""Long computations that figures of chapter 11 share."""
