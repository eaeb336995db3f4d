"""Both ends of the spectrum from one Krylov space: Lanczos with thick restarts.

#### References

Wu, Simon: Thick-restart Lanczos method for large symmetric eigenvalue problems. SIAM J. Matrix
Anal. Appl. 22(2), 2000.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from thesis_tf.hessian.basis import DeviceBasis, HostBasis


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
        intact: False while a step changes all this, and after one that was interrupted there.
    """

    # With the vectors, what a search is made of.
    STATE = ("matrix", "coupling", "products", "restarts")

    def __init__(self, operator, largest, smallest, capacity, memory, scratch=None):
        self.operator, self._largest, self._smallest = operator, largest, smallest
        self._size = operator.shape[0]
        self.capacity = min(capacity, self._size)
        self.basis = _basis(operator, self.capacity, memory, scratch)
        self.matrix = np.zeros((self.capacity, self.capacity))
        self.next, self.coupling = None, 0.0
        self.products = self.restarts = 0
        self.intact = True
        self._rng = np.random.default_rng(0)

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
        self.matrix[position, position] = along[position]
        self.coupling = float(tf.norm(product))
        rounding = 30 * _eps(product) * abs(self.matrix).max()
        if position + 1 < self._size and self.coupling <= rounding:
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
        return self._largest + self._smallest

    @property
    def exhausted(self):
        """Whether the space is the whole of R^d."""
        return len(self.basis) == self._size

    def ritz(self):
        """The `RitzPairs` of the wanted ends, fewer as long as the space is smaller."""
        count = len(self.basis)
        values, vectors = np.linalg.eigh(self.matrix[:count, :count])
        low = min(self._smallest, max(0, count - self._largest))
        chosen = sorted({*range(low), *range(max(low, count - self._largest), count)})
        residuals = abs(self.coupling * vectors[-1]) * (not self.exhausted)
        return RitzPairs(values[chosen], vectors[:, chosen], residuals[chosen])

    def _coupled(self):
        """How many of the newest vectors a product of the last one has parts of."""
        first = np.flatnonzero(self.matrix[len(self.basis) - 1])
        return len(self.basis) - min([*first, len(self.basis) - 1])

    def _fresh(self):
        vector = tf.constant(self._rng.normal(size=self._size), self.next.dtype)
        vector, _ = self.basis.orthogonalized(vector / tf.norm(vector), self._size)
        return vector

    def _restart(self):
        """Keeps the Ritz vectors of both ends, wanted ones and as many again beside them."""
        count = len(self.basis)
        values, vectors = np.linalg.eigh(self.matrix[:count, :count])
        spare = (count - self._largest - self._smallest) // 2
        low = self._smallest + (spare // 2 if self._smallest else 0)
        high = self._largest + (spare // 2 if self._largest else 0)
        kept = np.r_[:low, count - high : count]
        self.basis.replace(vectors[:, kept])
        self.matrix[:] = 0.0
        self.matrix[np.arange(len(kept)), np.arange(len(kept))] = values[kept]
        arrow = self.coupling * vectors[-1, kept]
        self.matrix[len(kept), : len(kept)] = self.matrix[: len(kept), len(kept)] = arrow
        self.restarts += 1


def _basis(operator, capacity, memory, scratch):
    size, dtype = operator.shape[0], operator.dtype
    accelerators = [d for d in tf.config.list_logical_devices() if d.device_type in ("GPU", "TPU")]
    if accelerators and capacity * size * dtype.itemsize <= memory:
        return DeviceBasis(capacity, size, dtype)
    return HostBasis(capacity, size, dtype, memory, scratch)


def _eps(tensor):
    return np.finfo(tensor.dtype.as_numpy_dtype).eps
