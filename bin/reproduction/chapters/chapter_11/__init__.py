"""Figures and tables of chapter 11."""
