"""Softmax regression solved to a certified optimum."""
