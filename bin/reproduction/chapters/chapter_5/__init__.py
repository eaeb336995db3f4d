"""Figures and tables of chapter 5."""
