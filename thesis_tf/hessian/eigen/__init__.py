"""Eigenpairs at both ends of the spectrum."""
