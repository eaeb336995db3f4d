"""Eigenvalues of Jacobians: of whole matrices in pieces, or by products with them alone.

The iterations call Python between products, so that Ctrl-C ends them.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import linalg

from thesis_tf._core.types import Array

DENSE = 1024  # the most values of a point for which whole Jacobians are computed by default
_ELEMENTS = 1 << 24  # the number of elements of Jacobians that are computed at once
_OPERATIONS = 1 << 30  # d^3 of all matrices that one call decomposes: a few seconds
_RESTARTS = 300  # of Arnoldi iterations of one eigenvalue

# From vectors (d,) to (J v, J'v).
Products = Callable[[Array], tuple[Array, Array]]


def pieces(count: int, size: int) -> Iterator[slice]:
    """Yields slices of `count` points of `size` values whose Jacobians are computed at once."""
    rows = max(1, min(_ELEMENTS // size**2, _OPERATIONS // size**3))
    for start in range(0, count, rows):
        yield slice(start, start + rows)


def of_symmetric_part(
    products: Products, size: int, top_k: int, *, tol: float
) -> tuple[Array, Array, float]:
    """Returns the largest eigenpairs of (J + J') / 2, and the norm of (J - J') / 2, by Lanczos.

    Args:
        products: products with J and J'.
        size: the number d of rows of J.
        top_k: the number k of eigenpairs, less than d.
        tol: the tolerance of |S v - lambda v|, relative to 1 + lambda.

    Returns:
        (values (k,), the largest first; vectors (d, k); the largest singular value).
    """

    # The identity is added to both, since the tolerance of SciPy is relative to the eigenvalue,
    # and no product has enough digits for eigenvalues near 0.
    def symmetric(v: Array) -> Array:
        along, back = products(v)
        return v + (along + back) / 2

    def squared_skew(v: Array) -> Array:
        along, back = products(v)
        along, back = products((along - back) / 2)
        return v - (along - back) / 2

    values, vectors = _lanczos(symmetric, size, top_k, tol)
    squares, _ = _lanczos(squared_skew, size, 1, tol)
    return values[::-1] - 1, vectors[:, ::-1], float(max(squares[0] - 1, 0.0)) ** 0.5


def principal_axes(centered: Array, count: int) -> Array:
    """Returns the first principal components (d, count) of centered points (n, d), by Lanczos."""
    total = np.square(centered).sum()
    _, vectors = _lanczos(
        lambda v: v + (centered @ v) @ centered / total, centered.shape[1], count, tol=1e-10
    )
    return vectors[:, ::-1]


def largest(products: Products, size: int, *, tol: float) -> tuple[float, float]:
    """Returns the largest |eigenvalue| of J and the largest real part of one, by Arnoldi.

    Each is NaN if its iterations don't converge.
    """
    return (
        _arnoldi(lambda v: products(v)[0], size, "LM", tol),
        _arnoldi(lambda v: v + products(v)[0], size, "LR", tol) - 1,
    )


def _lanczos(
    product: Callable[[Array], Array], size: int, count: int, tol: float
) -> tuple[Array, Array]:
    values, vectors = linalg.eigsh(_operator(product, size), count, v0=_start(size), tol=tol)
    return values, vectors


def _arnoldi(product: Callable[[Array], Array], size: int, which: str, tol: float) -> float:
    try:
        found = linalg.eigs(
            _operator(product, size), 1, which=which, v0=_start(size), tol=tol, maxiter=_RESTARTS,
            return_eigenvectors=False,
        )  # fmt: skip
    except linalg.ArpackError:  # also if it doesn't converge
        return float("nan")
    return float(abs(found[0]) if which == "LM" else found[0].real)


def _operator(product: Callable[[Array], Array], size: int) -> linalg.LinearOperator:
    return linalg.LinearOperator(
        (size, size), matvec=lambda v: product(v.reshape(-1)), dtype=np.float64
    )


def _start(size: int) -> Array:
    return np.random.default_rng(0).standard_normal(size)
