"""Figures and tables of chapter 7."""
