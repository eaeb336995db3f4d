"""Threads that exchange gradient norms and parameters with a store while training continues."""
