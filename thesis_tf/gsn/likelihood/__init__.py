"""Estimates of a log-likelihood from samples."""
