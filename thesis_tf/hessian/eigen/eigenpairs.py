"""Eigenvalues and eigenvectors at both ends of the spectrum."""

import dataclasses

import numpy as np
import scipy.sparse.linalg
import tensorflow as tf
import tqdm

from thesis_tf._core import checks
from thesis_tf.hessian.eigen import state_files
from thesis_tf.hessian.eigen.lanczos import Lanczos, rounding
from thesis_tf.persistence import files

SOLVERS = ("lanczos", "eigsh")
DEFAULT_MEMORY = 4 << 30
CONFIRM = 20


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs of both ends, the smallest eigenvalue first.

    Attributes:
        values: (k,), float64.
        vectors: (d, k), of the operator's dtype, unit columns.
        residuals: (k,), |Hv - lambda v|, computed with products.
        converged: (k,), whether the residual is at most tol times |lambda|, where an eigenvalue
            counts as no less than sqrt(epsilon) times the largest |lambda|, plus what rounding
            leaves.
        products: products that the search took.
        checks: products that the residuals took: k, and k more each time that the search went on
            because one was larger than its recurrence says.
        smallest: how many of them are from the lower end; the others are from the upper.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    products: int
    checks: int
    smallest: int

    def save(self, path):
        """Writes everything to a file in NumPy's .npz format, atomically."""
        with files.atomic(path) as partial, partial.open("wb") as file:
            np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            found = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        return cls(**{k: v if v.ndim else int(v) for k, v in found.items()})

    def table(self):
        """A table for people, the largest eigenvalue first."""
        lines = [f"{'eigenvalue':>12}  {'residual':>9}  converged"]
        for i in range(len(self.values) - 1, -1, -1):
            mark = "yes" if self.converged[i] else "NO"
            lines.append(f"{self.values[i]:12.5g}  {self.residuals[i]:9.1e}  {mark}")
        return "\n".join(lines)


def extreme_eigenpairs(
    operator,
    largest=20,
    smallest=3,
    tol=1e-3,
    solver="lanczos",
    *,
    start=None,
    capacity=None,
    memory=DEFAULT_MEMORY,
    max_products=1000,
    confirm=None,
    folder=None,
    save_every=10,
    seed=0,
    progress=True,
):
    """Finds the largest and the smallest eigenvalues (thesis, section 11.3: 20 and 3).

    "lanczos" finds both ends in one Krylov space, in which every product serves both: on a LeNet
    it takes half the products of two calls of `scipy.sparse.linalg.eigsh`. One start vector finds
    one vector only of those that share an eigenvalue, with either solver: `confirm` looks for more.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`, d x d.
        largest, smallest: how many eigenvalues at the upper and the lower end; together less
            than d.
        tol: an eigenpair has converged when |Hv - lambda v| <= tol |lambda|.
        solver: "lanczos", or "eigsh": SciPy's ARPACK, called once for an end, and once for both
            if as many are wanted of each.
        start: vectors (d,) or (d, n), whose sum is begun with, as the eigenvectors of an
            earlier checkpoint; None for a random vector.
        capacity: vectors at which the Krylov space is cut down to its best ones; None for 160, or
            what `memory` holds, but no fewer than the eigenvalues need.
        memory: bytes for those vectors in memory. If they need more they are in a file, in `folder`
            if one is given.
        max_products: the search ends after as many, converged or not; "eigsh" looks at it when it
            restarts, and takes more than twice as many as there are eigenvalues to find.
        confirm: products from a new random vector, orthogonal to what was found, when all has
            converged; another eigenvalue that shows is followed up, and so on until none does. None
            takes 20 where an end of the spectrum is at zero, as that of a Gauss-Newton matrix,
            which many vectors share as a rule, and 0 elsewhere. Not for "eigsh".
        folder: where the search is saved, and resumed after a kill by the same call; it holds as
            many bytes as the vectors.
        save_every: products between saves.
        seed: of the random start.
        progress: whether to show a bar on a terminal.

    Returns:
        `Eigenpairs`.

    Raises:
        ValueError: more eigenvalues than the matrix has are wanted, `start` is of another length,
            or `folder` holds the search of another operator.
        NotFiniteError: products are not finite.
    """
    size = operator.shape[0]
    checks.one_of("`solver`", solver, SOLVERS)
    for name, value in (("`largest`", largest), ("`smallest`", smallest)):
        if not isinstance(value, (int, np.integer)):
            raise checks.invalid(name, "an integer", repr(value), kind=TypeError)
    if min(largest, smallest) < 0 or not 1 <= largest + smallest < size:
        raise checks.invalid(
            "`largest` + `smallest`",
            f"from 1 to {size - 1}, less than the number of parameters",
            f"{largest} + {smallest}",
            "All eigenvalues of a small matrix: numpy.linalg.eigvalsh(H @ numpy.eye(d)).",
        )
    if not tol > 0:
        raise checks.invalid("`tol`", "positive", tol)
    first = _start(operator, start, seed)
    with tqdm.tqdm(desc="products", unit="", disable=None if progress else True) as bar:
        if solver == "eigsh":
            values, vectors, products = _eigsh(
                operator, largest, smallest, tol, first, max_products, bar
            )
            norm = np.abs(values).max(initial=0.0)
        else:
            if capacity is None:
                fits = int(memory // (size * operator.dtype.itemsize))
                capacity = max(min(160, fits), 2 * (largest + smallest) + 10)
            elif capacity < min(size, largest + smallest + 2):
                raise checks.invalid("`capacity`", f"at least {largest + smallest + 2}", capacity)
            search = Lanczos(operator, largest, smallest, capacity, memory, folder)
            try:
                return _lanczos(search, first, tol, max_products, confirm, folder, save_every, bar)
            finally:
                search.basis.close()
    norm = np.abs(values).max(initial=0.0)
    residuals, _ = _residuals(operator, values, vectors)
    return Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=residuals,
        converged=residuals <= _bound(values, tol, norm, operator.dtype, products),
        products=products,
        checks=len(values),
        smallest=min(smallest, len(values)),
    )


def _zero(norm, dtype):
    """The eigenvalue that smaller ones count as, of eigenvalues up to `norm`.

    A residual r errs an eigenvalue by r^2 / gap: where r is sqrt(eps) |H|, by eps |H|, which is
    rounding, in a gap as wide as |H|. More of an eigenvalue can't be told from zero.
    """
    return np.finfo(dtype).eps ** 0.5 * norm


def _wanted(values, tol, norm, dtype):
    """Up to where residuals must come, by the recurrence, for pairs to have converged."""
    return tol * np.maximum(np.abs(values), _zero(norm, dtype))


def _bound(values, tol, norm, dtype, products):
    """The same of residuals computed with products, which rounding adds to."""
    return _wanted(values, tol, norm, dtype) + rounding(norm, dtype, products)


def _start(operator, start, seed):
    size, dtype = operator.shape[0], operator.dtype
    if start is None:
        return np.random.default_rng(seed).normal(size=size).astype(dtype)
    start = np.asarray(start, dtype)
    if start.ndim not in (1, 2) or len(start) != size:
        raise checks.invalid("`start`", f"of shape ({size},) or ({size}, n)", start.shape)
    start = start.reshape(size, -1).sum(axis=1)
    if not np.isfinite(start).all() or not start.any():
        raise checks.invalid("`start`", "finite and not zero", "vectors whose sum is not")
    return start


def _lanczos(search, first, tol, max_products, confirm, folder, save_every, bar):
    """Searches until the wanted pairs have converged, by products too; returns `Eigenpairs`."""
    saved = state_files.Checkpoints(folder, search) if folder is not None else None
    if saved is None or not saved.restore():
        search.start(tf.constant(first))
    checks, before = 0, np.inf
    while True:
        ritz = _search(search, first.dtype, tol, max_products, confirm, saved, save_every, bar)
        vectors = search.basis.combine(ritz.coefficients).T
        residuals, products = _residuals(search.operator, ritz.values, vectors)
        checks += len(residuals)
        bound = _bound(ritz.values, tol, search.norm, first.dtype, search.products)
        ended = search.exhausted or search.products >= max_products
        # Without vectors kept from an earlier space, products say the same as the recurrence.
        if ended or not len(search.found) or (residuals <= bound).all():
            break
        excess = np.linalg.norm(residuals / bound)
        if excess >= before:
            break  # an operator with more noise than rounding has no smaller ones
        before, worst = excess, (residuals / bound).argmax()
        search.mend(ritz, _lacking(products[worst], ritz.values[worst], vectors[:, worst]))
        del products, vectors
        search.step()
    return Eigenpairs(
        values=ritz.values,
        vectors=vectors,
        residuals=residuals,
        converged=residuals <= bound,
        products=search.products,
        checks=checks,
        smallest=min(search.smallest, len(residuals)),
    )


def _search(search, dtype, tol, max_products, confirm, saved, save_every, bar):
    """Steps until the wanted pairs have converged by the recurrence; returns `RitzPairs`."""
    try:
        if not search.products:
            search.step()
        while True:
            ritz = search.ritz()
            zero = _zero(search.norm, dtype)
            good = ritz.residuals <= _wanted(ritz.values, tol, search.norm, dtype)
            bar.update(search.products - bar.n)
            bar.set_postfix_str(f"{good.sum()} of {search.wanted} converged")
            if search.exhausted or search.products >= max_products:
                break
            if len(good) == search.wanted and good.all():
                due = _to_confirm(search, ritz.values, confirm, zero)
                if not due:
                    break
                same = len(search.found) == len(good) and np.allclose(
                    ritz.values, search.found, rtol=tol, atol=zero
                )
                if same and search.products - search.begun >= due:
                    break
                if not same:
                    search.begin_anew(ritz)
            search.step()
            if saved is not None and search.products % save_every == 0:
                saved.save()
    finally:
        # Also on Ctrl-C.
        if saved is not None and search.intact:
            saved.save()
    return ritz


def _to_confirm(search, values, confirm, zero):
    """Products from a new vector that must show nothing new."""
    if search.coupling <= zero:
        # The space has ended by itself, with one vector of those that share an eigenvalue.
        return max(confirm or 0, CONFIRM)
    if confirm is None:
        ends = values[:1] if search.smallest else values[-1:]
        if search.smallest and search.largest:
            ends = values[[0, -1]]
        return CONFIRM if np.abs(ends).min() <= zero else 0
    return confirm


def _eigsh(operator, largest, smallest, tol, first, max_products, bar):
    """The same by ARPACK."""
    before = operator.products

    def multiply(vector):
        bar.update()
        return operator @ np.ascontiguousarray(vector.reshape(-1), operator.dtype)

    matrix = scipy.sparse.linalg.LinearOperator(
        operator.shape, matvec=multiply, dtype=operator.dtype
    )
    if largest == smallest:
        calls = [("BE", 2 * largest)]
    else:
        calls = [(which, k) for which, k in (("SA", smallest), ("LA", largest)) if k]
    values, vectors = [], []
    for which, k in calls:
        try:
            found = scipy.sparse.linalg.eigsh(
                matrix, k, which=which, tol=tol, v0=first, maxiter=max(1, max_products // k)
            )
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            found = error.eigenvalues, error.eigenvectors
        except scipy.sparse.linalg.ArpackError as error:
            raise ValueError(f"{error} Try solver='lanczos'.") from error
        order = np.argsort(found[0])
        values.append(found[0][order])
        vectors.append(found[1][:, order])
    values = np.concatenate(values).astype(np.float64)
    return values, np.concatenate(vectors, axis=1), operator.products - before


def _residuals(operator, values, vectors):
    """|Hv - lambda v| (k,), by one pass over the data, and the products."""
    if not len(values):
        return np.zeros(0), []
    columns = [np.ascontiguousarray(column) for column in vectors.T]
    products = operator.multiply([tf.constant(column) for column in columns])
    lacking = map(_lacking, products, values, columns)
    return np.array([np.linalg.norm(vector) for vector in lacking]), products


def _lacking(product, value, vector):
    """What a vector lacks of being an eigenvector, Hv - lambda v, float64."""
    return product.numpy().astype(np.float64) - value * vector
