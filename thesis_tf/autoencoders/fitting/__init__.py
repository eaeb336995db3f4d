"""Fitting auto-encoders: with Keras, with full-batch methods, and initial weights from data."""
