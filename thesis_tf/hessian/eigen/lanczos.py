"""Both ends of the spectrum from one Krylov space: Lanczos with thick restarts.

#### References

Wu, Simon: Thick-restart Lanczos method for large symmetric eigenvalue problems. SIAM J. Matrix
Anal. Appl. 22(2), 2000.

Paige: Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem. Linear
Algebra Appl. 34, 1980.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from thesis_tf.hessian.eigen.basis import DeviceBasis, HostBasis


class NotFiniteError(ValueError):
    """The loss, or a product, is not finite: training has diverged, as a rule."""


def rounding(norm, dtype, steps=1):
    """What rounding may leave of |Hv - lambda v| where the recurrence says zero.

    Paige: H V = V T + residual e' + F. A column of F is at most 2 (7 + p) eps |H|, where p eps |H|
    bounds a product's own error; p is 8 here, as sums are made in blocks of many partial sums. For
    m columns and a unit vector c, |F c| is at most sqrt(m) times that.

    Args:
        norm: |H|. dtype: of the vectors. steps: m, or 1 for one column.
    """
    return 2 * (7 + 8) * np.sqrt(steps) * np.finfo(dtype).eps * norm


@dataclasses.dataclass
class RitzPairs:
    """What the Krylov space says of the wanted eigenvalues.

    Attributes:
        values: (k,), the smallest first.
        coefficients: (m, k), of their vectors in the basis.
        residuals: (k,), |Hv - lambda v| by the recurrence.
    """

    values: np.ndarray
    coefficients: np.ndarray
    residuals: np.ndarray


class Lanczos:
    """A thick-restarted Lanczos recurrence with full reorthogonalisation.

    With V the m vectors of the basis, H V = V T + residual e', where `residual` is orthogonal to V
    and e' picks the newest vector. T is tridiagonal, but for the vectors kept at a restart, of
    which it holds the values on its diagonal and the couplings to the vector after them.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`.
        largest, smallest: how many eigenvalues at each end are wanted.
        capacity: vectors at which it restarts.
        memory: bytes for vectors in memory; the rest is on disk.
        scratch: the folder for those; None for the system's own.

    Attributes:
        basis: V. matrix: T, in its upper left. next, coupling: the residual's direction and norm.
        products, restarts: how many there were.
        norm: the largest |Ritz value| so far.
        found: (k,) the wanted eigenvalues when the search was last begun anew; or empty.
        begun: the products before that.
        intact: False while a step changes all this, and after one that was interrupted there.
    """

    # With the vectors, what a search is made of.
    STATE = ("matrix", "coupling", "products", "restarts", "norm", "found", "begun")

    def __init__(self, operator, largest, smallest, capacity, memory, scratch=None):
        self.operator, self.largest, self.smallest = operator, largest, smallest
        self._size = operator.shape[0]
        self.capacity = min(capacity, self._size)
        self.basis = _basis(operator, self.capacity, memory, scratch)
        self.matrix = np.zeros((self.capacity, self.capacity))
        self.next, self.coupling = None, 0.0
        self.products = self.restarts = self.begun = 0
        self.found, self.norm = np.zeros(0), 0.0
        self.intact = True

    def start(self, vector):
        """Begins with a vector (d,) that is not zero."""
        self.next = vector / tf.norm(vector)

    def step(self):
        """Adds one vector to the space, at the cost of one product; restarts when it is full."""
        if len(self.basis) == self.capacity:
            self.intact = False
            self._restart()
            self.intact = True
        vector, position = self.next, len(self.basis)
        (product,) = self.operator.multiply([vector])
        self.intact = False
        self.basis.append(vector)
        product, along = self.basis.orthogonalized(product, self._coupled())
        if len(self.found):
            # What the vectors found lack of being eigenvectors couples new ones to them.
            self.matrix[position, : position + 1] = self.matrix[: position + 1, position] = along
        self.matrix[position, position] = along[position]
        self.coupling = float(tf.norm(product))
        if not np.isfinite(self.coupling):
            raise NotFiniteError(
                "A product with the operator is not finite: its weights or data have diverged, and"
                " there are no eigenvalues."
            )
        nothing = rounding(abs(self.matrix).max(), product.dtype.as_numpy_dtype)
        if position + 1 < self._size and self.coupling <= nothing:
            # The space is invariant: another vector, which nothing couples to it.
            self.coupling, product = 0.0, self._fresh()
        if position + 1 < self.capacity:
            self.matrix[position + 1, position] = self.matrix[position, position + 1] = (
                self.coupling
            )
        self.next = product / tf.maximum(tf.norm(product), 1e-37)
        self.products += 1
        self.intact = True

    @property
    def wanted(self):
        """How many eigenvalues are wanted."""
        return self.largest + self.smallest

    @property
    def exhausted(self):
        """Whether the space is the whole of R^d."""
        return len(self.basis) == self._size

    def ritz(self):
        """The `RitzPairs` of the wanted ends, fewer as long as the space is smaller."""
        count = len(self.basis)
        values, vectors = np.linalg.eigh(self.matrix[:count, :count])
        low = min(self.smallest, max(0, count - self.largest))
        chosen = sorted({*range(low), *range(max(low, count - self.largest), count)})
        residuals = abs(self.coupling * vectors[-1]) * (not self.exhausted)
        self.norm = max(self.norm, float(abs(values).max()))
        return RitzPairs(values[chosen], vectors[:, chosen], residuals[chosen])

    def begin_anew(self, ritz):
        """Keeps the wanted Ritz vectors and goes on with a random vector orthogonal to them.

        One start vector has a part along one vector only of those that share an eigenvalue; a new
        one finds another.
        """
        self.intact = False
        self._go_on(ritz)
        self.found, self.begun = ritz.values, self.products
        self.intact = True

    def mend(self, ritz, lacking):
        """Keeps the wanted Ritz vectors and goes on with what one of them lacks.

        `begin_anew` leaves the recurrence's residual out of the space: of what the vectors kept
        lack of being eigenvectors, the part outside it is in no coupling, and no longer in the
        residuals of `ritz`. From here on it is in the space.

        Args:
            ritz: what `ritz` gave.
            lacking: Hv - lambda v of one of its vectors (d,), by a product.
        """
        self.intact = False
        self._go_on(ritz, lacking)
        self.intact = True

    def _go_on(self, ritz, vector=None):
        """Keeps the wanted Ritz vectors, and a direction orthogonal to them comes next."""
        self._keep(ritz.values, ritz.coefficients)
        self.restarts += 1
        if vector is None:
            vector = self._fresh()
        else:
            vector = tf.constant(vector / np.linalg.norm(vector), self.next.dtype)
            vector, _ = self.basis.orthogonalized(vector, self._size)
        self.coupling, self.next = 0.0, tf.math.l2_normalize(vector)

    def _coupled(self):
        """How many of the newest vectors a product of the last one has parts of."""
        first = np.flatnonzero(self.matrix[len(self.basis) - 1])
        return len(self.basis) - min([*first, len(self.basis) - 1])

    def _fresh(self):
        # Another one each time, the same after a kill, and none that a search starts with.
        rng = np.random.default_rng([self.products, 1])
        vector = tf.constant(rng.normal(size=self._size), self.next.dtype)
        vector, _ = self.basis.orthogonalized(vector / tf.norm(vector), self._size)
        return vector

    def _restart(self):
        """Keeps the Ritz vectors of both ends, wanted ones and as many again beside them."""
        count = len(self.basis)
        values, vectors = np.linalg.eigh(self.matrix[:count, :count])
        spare = (count - self.largest - self.smallest) // 2
        low = self.smallest + (spare // 2 if self.smallest else 0)
        high = self.largest + (spare // 2 if self.largest else 0)
        kept = np.r_[:low, count - high : count]
        self._keep(values[kept], vectors[:, kept])
        arrow = self.coupling * vectors[-1, kept]
        self.matrix[len(kept), : len(kept)] = self.matrix[: len(kept), len(kept)] = arrow
        self.restarts += 1

    def _keep(self, values, coefficients):
        self.basis.replace(coefficients)
        self.matrix[:] = 0.0
        np.fill_diagonal(self.matrix[: len(values), : len(values)], values)


def _basis(operator, capacity, memory, scratch):
    size, dtype = operator.shape[0], operator.dtype
    accelerators = [d for d in tf.config.list_logical_devices() if d.device_type in ("GPU", "TPU")]
    if accelerators and capacity * size * dtype.itemsize <= memory:
        return DeviceBasis(capacity, size, dtype)
    return HostBasis(capacity, size, dtype, memory, scratch)
