"""Derivatives of r: Jacobians, their eigenvalues and products with them."""
