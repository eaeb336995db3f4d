"""Ratios against peers, each a script that prints a table; run from the checkout."""
