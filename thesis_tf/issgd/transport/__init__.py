"""Threads that exchange gradient norms and parameters with a store during training."""
