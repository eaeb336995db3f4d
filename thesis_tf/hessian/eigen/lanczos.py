"""Both ends of the spectrum from one Krylov space: Lanczos with thick restarts.

A search is a sequence of `LanczosState`s, which functions compute: `init`, `step`, and `restart`
when the space is full; `ritz` computes the eigenpairs. With V the m vectors of the basis,

    H V = V T + residual e',

where the residual is orthogonal to V and e' selects the newest vector. T is tridiagonal except for
the vectors kept at a restart, for which it has their eigenvalues on its diagonal and their
couplings to the next vector.

#### References

Wu, Simon: Thick-restart Lanczos method for large symmetric eigenvalue problems. SIAM J. Matrix
Anal. Appl. 22(2), 2000.

Paige: Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem. Linear
Algebra Appl. 34, 1980.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from thesis_tf.hessian.eigen.basis import Basis


class NotFiniteError(ValueError):
    """The loss or a product is not finite, usually because training has diverged."""


class SymmetricOperator(Protocol):
    """The methods of an operator that a search uses, such as those of `HessianOperator`."""

    @property
    def shape(self) -> tuple[int, int]:
        """(d, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of vectors."""

    @property
    def products(self) -> int:
        """The number of products so far."""

    def __matmul__(self, vectors: Any) -> Any:
        """Returns products with a vector (d,) or with columns (d, k)."""

    def fingerprint(self, *, weights: bool = True) -> str:
        """Returns a hash that tells the operator from others."""

    def to_scipy(self) -> Any:
        """Returns the operator as a `scipy.sparse.linalg.LinearOperator`."""


@dataclasses.dataclass(frozen=True, eq=False)
class LanczosState:
    """A search after one of its steps.

    A state is immutable, except that its vectors are in a `Basis` that all states of a search
    share, since they may be too large to copy. A step appends a vector, so older states stay valid.
    A restart overwrites vectors, so states before it become invalid.

    Attributes:
        basis: V, whose first `count` rows belong to this state.
        count: m, the number of vectors.
        matrix: T (ncv, ncv), in its upper left (m, m).
        next: (d,), the direction of the residual, which is the next vector.
        coupling: the norm of the residual.
        largest, smallest: the number of requested eigenvalues at each end.
        products, restarts: the numbers of products and restarts so far.
        norm: the largest |Ritz value| so far.
        found: (k,), the requested eigenvalues when the search last began anew; empty before.
        begun: the number of products at that time.
    """

    basis: Basis
    count: int
    matrix: np.ndarray
    next: "tf.Tensor"
    coupling: float
    largest: int
    smallest: int
    _: dataclasses.KW_ONLY
    products: int = 0
    restarts: int = 0
    norm: float = 0.0
    found: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    begun: int = 0

    @property
    def ncv(self) -> int:
        """The number of vectors at which the space is full."""
        return len(self.matrix)

    @property
    def wanted(self) -> int:
        """The number of requested eigenvalues."""
        return self.largest + self.smallest

    @property
    def is_full(self) -> bool:
        """Whether `restart` must come before another step."""
        return self.count == self.ncv

    @property
    def is_whole(self) -> bool:
        """Whether the space is all of R^d."""
        return self.count == self.next.shape[0]

    @property
    def is_valid(self) -> bool:
        """Whether the basis still holds this state's vectors: no restart has overwritten them."""
        return self.basis.replacements == self.restarts


@dataclasses.dataclass(frozen=True, eq=False)
class RitzPairs:
    """Approximations of the wanted eigenpairs from a Krylov space.

    Attributes:
        values: (k,), the smallest first.
        coefficients: (m, k), of their vectors in the basis.
        residuals: (k,), |Hv - lambda v| according to the recurrence.
        norm: the largest |Ritz value| of this space and of earlier ones.
    """

    values: np.ndarray
    coefficients: np.ndarray
    residuals: np.ndarray
    norm: float


def rounding(norm: float, dtype: npt.DTypeLike, *, steps: int = 1) -> float:
    """Returns a bound of |Hv - lambda v| due to rounding, if it is zero by the recurrence.

    Paige: H V = V T + residual e' + F. A column of F is at most 2 (7 + p) eps |H|, where p eps |H|
    bounds the error of a product; p is 8 here, since sums are computed in blocks with many partial
    sums. For m columns and a unit vector c, |F c| is at most sqrt(m) times that.

    Args:
        norm: |H|.
        dtype: the dtype of the vectors.
        steps: m, or 1 for one column.
    """
    return float(2 * (7 + 8) * np.sqrt(steps) * np.finfo(dtype).eps * norm)


def init(v0: "tf.Tensor", basis: Basis, *, largest: int, smallest: int) -> LanczosState:
    """Returns a state with no vectors yet.

    Args:
        v0: (d,), the first vector; not zero.
        basis: an empty basis for ncv vectors, at most d.
        largest, smallest: the number of requested eigenvalues at each end.
    """
    matrix = np.zeros((basis.ncv, basis.ncv))
    return LanczosState(basis, 0, matrix, v0 / tf.norm(v0), 0.0, largest, smallest)


def step(operator: SymmetricOperator, state: LanczosState) -> LanczosState:
    """Adds one vector to the space, at the cost of one product.

    Args:
        operator: the matrix H.
        state: one that is not full.

    Raises:
        NotFiniteError: the product is not finite.
    """
    vector, position, basis = state.next, state.count, state.basis
    product = operator @ vector
    basis.put(position, vector)
    # A power of two, so that no squares overflow or underflow, without rounding.
    scale = _scale(product)
    product, along = basis.orthogonalized(
        product * scale, position + 1, _coupled(state.matrix, position)
    )
    along = along / scale
    matrix = state.matrix.copy()
    if len(state.found):
        # Found vectors are eigenvectors only up to `tol`, so they are coupled to new vectors.
        matrix[position, : position + 1] = matrix[: position + 1, position] = along
    matrix[position, position] = along[position]
    coupling = float(tf.norm(product)) / scale
    if not np.isfinite(coupling):
        raise NotFiniteError(
            "A product with the operator is not finite, so there are no eigenvalues: training has"
            " diverged, or the data are not finite."
        )
    nothing = rounding(abs(matrix).max(), product.dtype.as_numpy_dtype)
    if position + 1 < product.shape[0] and coupling <= nothing:
        # The space is invariant: the search continues with a random vector without coupling to it.
        coupling, product = 0.0, _fresh(state, position + 1)
    if position + 1 < state.ncv:
        matrix[position + 1, position] = matrix[position, position + 1] = coupling
    return dataclasses.replace(
        state,
        count=position + 1,
        matrix=matrix,
        next=product / tf.maximum(tf.norm(product), 1e-37),
        coupling=coupling,
        products=state.products + 1,
    )


def ritz(state: LanczosState) -> RitzPairs:
    """Returns the requested pairs, or fewer while the space is smaller."""
    count = state.count
    values, vectors = np.linalg.eigh(state.matrix[:count, :count])
    low = min(state.smallest, max(0, count - state.largest))
    chosen = sorted({*range(low), *range(max(low, count - state.largest), count)})
    residuals = abs(state.coupling * vectors[-1]) * (not state.is_whole)
    return RitzPairs(
        values=values[chosen],
        coefficients=vectors[:, chosen],
        residuals=residuals[chosen],
        norm=max(state.norm, float(abs(values).max())),
    )


def restart(state: LanczosState) -> LanczosState:
    """Keeps Ritz vectors of both ends: the requested ones, and more in half of the free space."""
    count = state.count
    values, vectors = np.linalg.eigh(state.matrix[:count, :count])
    spare = (count - state.wanted) // 2
    low = state.smallest + (spare // 2 if state.smallest else 0)
    high = state.largest + (spare // 2 if state.largest else 0)
    kept = np.r_[:low, count - high : count]
    state.basis.replace(vectors[:, kept])
    matrix = _diagonal(values[kept], state.ncv)
    arrow = state.coupling * vectors[-1, kept]
    matrix[len(kept), : len(kept)] = matrix[: len(kept), len(kept)] = arrow
    return dataclasses.replace(state, count=len(kept), matrix=matrix, restarts=state.restarts + 1)


def begin_anew(state: LanczosState, pairs: RitzPairs) -> LanczosState:
    """Keeps the requested Ritz vectors and continues with a random vector orthogonal to them.

    From one first vector, only one eigenvector of a multiple eigenvalue can be found. A new random
    vector finds another one.
    """
    state = _kept(state, pairs)
    return dataclasses.replace(
        state,
        next=tf.math.l2_normalize(_fresh(state, state.count)),
        found=pairs.values,
        begun=state.products,
    )


def extend(state: LanczosState, pairs: RitzPairs, residual: np.ndarray) -> LanczosState:
    """Keeps the requested Ritz vectors and continues with the residual of one of them.

    `begin_anew` drops the residual of the recurrence: couplings and the residuals of `ritz` no
    longer include the part of Hv - lambda v outside of the space. This function adds it to the
    space.

    Args:
        state: the search.
        pairs: its `ritz`.
        residual: Hv - lambda v (d,) for one of its vectors, computed with a product.
    """
    state = _kept(state, pairs)
    vector = tf.constant(residual / np.linalg.norm(residual), state.next.dtype)
    vector, _ = state.basis.orthogonalized(vector, state.count, vector.shape[0])
    return dataclasses.replace(state, next=tf.math.l2_normalize(vector))


def _kept(state: LanczosState, pairs: RitzPairs) -> LanczosState:
    """Keeps the requested Ritz vectors, without coupling to the next vector."""
    state.basis.replace(pairs.coefficients)
    return dataclasses.replace(
        state,
        count=len(pairs.values),
        matrix=_diagonal(pairs.values, state.ncv),
        coupling=0.0,
        restarts=state.restarts + 1,
    )


def _diagonal(values: np.ndarray, size: int) -> np.ndarray:
    matrix = np.zeros((size, size))
    np.fill_diagonal(matrix[: len(values), : len(values)], values)
    return matrix


def _scale(vector: "tf.Tensor") -> float:
    """Returns the power of two that brings a vector's largest element to [.5, 1)."""
    largest = float(tf.reduce_max(tf.abs(vector)))
    if not 0 < largest < np.inf:
        return 1.0
    limits = np.finfo(vector.dtype.as_numpy_dtype)
    return float(2.0 ** np.clip(-np.frexp(largest)[1], limits.minexp, limits.maxexp - 2))


def _coupled(matrix: np.ndarray, position: int) -> int:
    """Returns the number of newest vectors to which the product of the last vector is coupled."""
    first = np.flatnonzero(matrix[position])
    return int(position + 1 - min([*first, position]))


def _fresh(state: LanczosState, count: int) -> "tf.Tensor":
    """Returns a random vector orthogonal to the first `count` vectors."""
    size = state.next.shape[0]
    # A different vector each time, the same after a kill, and never the first vector of a search.
    rng = np.random.default_rng([state.products, 1])
    vector = tf.constant(rng.normal(size=size), state.next.dtype)
    vector, _ = state.basis.orthogonalized(vector / tf.norm(vector), count, size)
    return vector
