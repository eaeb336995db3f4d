"""Figures and tables of chapter 9."""
