"""Estimates of the log-likelihood from samples."""
