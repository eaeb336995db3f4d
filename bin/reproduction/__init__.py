"""Recomputation of the thesis' figures and tables (`chapters`), and its `engine`."""
