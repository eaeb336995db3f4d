"""Probes, Hessians, importance sampling, densities and generative networks for Keras models.

Each area is a separate package, which is imported by name:

    from thesis_tf import datasets, probes

Importing `thesis_tf` alone is cheap: nothing here imports TensorFlow.
"""

__version__ = "0.1.0"
