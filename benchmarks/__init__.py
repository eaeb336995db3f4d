"""Benchmarks against other libraries; each is a script that prints a table. Run from a checkout."""
