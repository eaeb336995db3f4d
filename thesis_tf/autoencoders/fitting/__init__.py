"""Fitting auto-encoders: by Keras, full batch, and initial weights from data."""
