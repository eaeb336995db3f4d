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
_MORE = 8  # the number of vectors of a block beyond the eigenpairs that are wanted
_BLOCKS = 16  # the most blocks of a basis

# From vectors (d, m) to (J v, J'v), both (d, m).
Products = Callable[[Array], tuple[Array, Array]]


def pieces(count: int, size: int) -> Iterator[slice]:
    """Yields slices of `count` points of `size` values whose Jacobians are computed at once."""
    rows = max(1, min(_ELEMENTS // size**2, _OPERATIONS // size**3))
    for start in range(0, count, rows):
        yield slice(start, start + rows)


def of_symmetric_part(
    products: Products, size: int, top_k: int, *, tol: float
) -> tuple[Array, Array, float, float]:
    """Returns the largest eigenpairs of S = (J + J') / 2, and the norm of (J - J') / 2.

    Args:
        products: products with J and J'.
        size: the number d of rows of J.
        top_k: the number k of eigenpairs, less than d.
        tol: the tolerance of |S v - lambda v|, relative to the largest |lambda|, at least 1.

    Returns:
        (values (k,), the largest first; vectors (d, k); the largest singular value; the largest
        |S v - lambda v|).
    """

    def symmetric(v: Array) -> Array:
        along, back = products(v)
        return (along + back) / 2

    def squared_skew(v: Array) -> Array:
        along, back = products(v)
        along, back = products((along - back) / 2)
        return (back - along) / 2

    values, vectors, residual = _block_lanczos(symmetric, size, top_k, tol)
    squares, _, _ = _block_lanczos(squared_skew, size, 1, tol)
    return values, vectors, float(max(squares[0], 0.0)) ** 0.5, residual


def principal_axes(centered: Array, count: int) -> Array:
    """Returns the first principal components (d, count) of centered points (n, d)."""
    total = np.square(centered).sum()
    return _block_lanczos(
        lambda v: centered.T @ (centered @ v) / total, centered.shape[1], count, tol=1e-10
    )[1]


def largest(products: Products, size: int, *, tol: float) -> tuple[float, float]:
    """Returns the largest |eigenvalue| of J and the largest real part of one, by Arnoldi.

    Each is NaN if its iterations don't converge.
    """

    # The identity is added where it changes no order, since the tolerance of SciPy is relative to
    # the eigenvalue, and no product has enough digits for eigenvalues near 0.
    return (
        _arnoldi(lambda v: products(v)[0], size, "LM", tol),
        _arnoldi(lambda v: v + products(v)[0], size, "LR", tol) - 1,
    )


def _block_lanczos(
    product: Callable[[Array], Array], size: int, count: int, tol: float
) -> tuple[Array, Array, float]:
    """Returns the largest eigenvalues of a symmetric matrix, vectors, and the largest residual.

    A Krylov space of one vector has each eigenvalue once, however often it occurs, and J of r with
    few hidden units has 0 very often. That of a block has it as often as the block has vectors.
    """
    width = min(count + _MORE, size)
    block = np.linalg.qr(np.random.default_rng(0).standard_normal((size, width)))[0]
    basis, images = block, np.zeros((size, 0))
    while True:
        images = np.concatenate([images, product(block)], axis=1)
        inner = basis.T @ images
        ritz, mixing = np.linalg.eigh((inner + inner.T) / 2)
        values, mixing = ritz[: -count - 1 : -1], mixing[:, : -count - 1 : -1]
        vectors = basis @ mixing
        residual = float(np.linalg.norm(images @ mixing - vectors * values, axis=0).max())
        room = min(width, size - basis.shape[1])
        if residual <= tol * max(1.0, abs(ritz).max()) or basis.shape[1] >= _BLOCKS * width:
            return values, vectors, residual
        if not room:
            return values, vectors, residual
        block = images[:, -block.shape[1] :][:, :room]
        for _ in range(2):  # twice is enough
            block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
        basis = np.concatenate([basis, block], axis=1)


def _arnoldi(product: Callable[[Array], Array], size: int, which: str, tol: float) -> float:
    operator = linalg.LinearOperator(
        (size, size), matvec=lambda v: product(v.reshape(-1, 1))[:, 0], dtype=np.float64
    )
    start = np.random.default_rng(0).standard_normal(size)
    try:
        found = linalg.eigs(
            operator, 1, which=which, v0=start, tol=tol, maxiter=_RESTARTS,
            return_eigenvectors=False,
        )  # fmt: skip
    except linalg.ArpackError:  # also if it doesn't converge
        return float("nan")
    return float(abs(found[0]) if which == "LM" else found[0].real)
