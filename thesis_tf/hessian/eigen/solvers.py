"""The search for the eigenvalues at both ends of the spectrum."""

import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Path, TensorLike, Verbose
from thesis_tf.hessian.eigen import lanczos
from thesis_tf.hessian.eigen.basis import make_basis
from thesis_tf.hessian.eigen.eigenpairs import (
    DEFAULT_SEARCH,
    Eigenpairs,
    SearchOptions,
    repeated,
)
from thesis_tf.hessian.eigen.lanczos import (
    LanczosState,
    NotFiniteError,
    RitzPairs,
    SymmetricOperator,
)
from thesis_tf.hessian.eigen.state_files import StateFolder
from thesis_tf.reporting import progress

CONFIRM = 20


def extreme_eigenpairs(
    operator: SymmetricOperator,
    *,
    largest: int = 20,
    smallest: int = 3,
    tol: float = 1e-3,
    v0: TensorLike | None = None,
    search: SearchOptions = DEFAULT_SEARCH,
    folder: Path | None = None,
    seed: int = 0,
    verbose: Verbose = "auto",
) -> Eigenpairs:
    """Computes the largest and the smallest eigenvalues (thesis, section 11.3: 20 and 3).

    Lanczos' method computes both ends from one Krylov space, so every product is used for both. On
    a LeNet it needs half as many products as two calls of `scipy.sparse.linalg.eigsh`. From one
    first vector, both solvers find one eigenvector of a multiple eigenvalue, and others only by
    rounding. If they find two, Lanczos' method searches for all; `search.confirm` always does.

    Args:
        operator: a `HessianOperator` or `GaussNewtonOperator`, d x d.
        largest, smallest: the numbers of eigenvalues at the upper and the lower end; their sum must
            be less than d.
        tol: an eigenpair has converged when |Hv - lambda v| <= tol |lambda|.
        v0: the first vector, (d,), or (d, n) for the sum of vectors, such as the eigenvectors of an
            earlier checkpoint; None for a random vector.
        search: the solver, the size of the Krylov space, its memory, and when to end.
        folder: where the search is saved, so that the same call continues after a kill; it needs
            as much space as the vectors. Not supported by "eigsh".
        seed: the seed of the random first vector.
        verbose: "auto", 0, 1 or 2: whether to show a progress bar that counts products; with
            "eigsh" it is updated only when an end is finished.

    Returns:
        `Eigenpairs`.

    Raises:
        ValueError: too many eigenvalues are requested, `v0` has another length, or `folder` holds
            the search of another operator.
        NotFiniteError: products are not finite.
    """
    size, seed = operator.shape[0], checked_seed(seed)
    if size < 2:
        advice = "Its only eigenvalue is float(H @ numpy.ones(1))."
        raise checks.invalid("`operator`", "of at least 2 parameters", size, advice)
    for name, value in (("`largest`", largest), ("`smallest`", smallest)):
        if not isinstance(value, (int, np.integer)):
            raise checks.invalid(name, "an integer", repr(value), kind=TypeError)
    largest, smallest = int(largest), int(smallest)
    if min(largest, smallest) < 0 or not 1 <= largest + smallest < size:
        raise checks.invalid(
            "`largest` + `smallest`",
            f"from 1 to {size - 1}, less than the number of parameters",
            f"{largest} + {smallest}",
            "For all eigenvalues of a small matrix: numpy.linalg.eigvalsh(H @ numpy.eye(d)).",
        )
    if not 0 < tol < 1:
        raise checks.invalid("`tol`", "between 0 and 1", tol)
    first = _first_vector(operator, v0, seed)
    with progress.bar(verbose, description="products", unit="") as bar:
        if search.solver == "eigsh":
            return _eigsh(operator, largest, smallest, tol, first, search.max_products, bar)
        basis = make_basis(
            size,
            operator.dtype,
            ncv=min(size, _ncv(operator, largest + smallest, search)),
            memory_limit=search.memory_limit,
            folder=folder,
        )
        try:
            saved = None if folder is None else StateFolder(folder, operator.fingerprint())
            state = None
            if saved is not None:
                state = saved.load(basis, largest=largest, smallest=smallest)
            if state is None:
                v0 = tf.constant(first)
                state = lanczos.init(v0, basis, largest=largest, smallest=smallest)
            return _Search(operator, tol, search, saved, bar).run(state)
        finally:
            basis.close()


def _ncv(operator: SymmetricOperator, wanted: int, search: SearchOptions) -> int:
    """Returns the number of vectors at which the Krylov space is restarted."""
    size = operator.shape[0]
    if search.ncv is None:
        fits = int(search.memory_limit // (size * operator.dtype.itemsize))
        return max(min(160, fits), 2 * wanted + 10)
    if search.ncv < min(size, wanted + 2):
        raise checks.invalid("`ncv`", f"at least {wanted + 2}", search.ncv)
    return search.ncv


def _zero(norm: float, dtype: npt.DTypeLike) -> float:
    """Returns the smallest |lambda| that can be distinguished from 0, for a largest one of `norm`.

    A residual r changes an eigenvalue by r^2 / gap. For r = sqrt(eps) |H| and a gap of |H| this is
    eps |H|, the size of rounding errors.
    """
    zero: float = np.finfo(dtype).eps ** 0.5 * norm
    return zero


def _wanted(values: np.ndarray, tol: float, norm: float, dtype: npt.DTypeLike) -> np.ndarray:
    """Returns the largest residuals, by the recurrence, with which pairs count as converged."""
    bound: np.ndarray = tol * np.maximum(np.abs(values), _zero(norm, dtype))
    return bound


def _bound(
    values: np.ndarray, tol: float, norm: float, dtype: npt.DTypeLike, products: int
) -> np.ndarray:
    """Returns the same for residuals computed with products, which include rounding errors."""
    return _wanted(values, tol, norm, dtype) + lanczos.rounding(norm, dtype, steps=products)


def _first_vector(operator: SymmetricOperator, v0: TensorLike | None, seed: int) -> np.ndarray:
    size, dtype = operator.shape[0], operator.dtype
    if v0 is None:
        return np.random.default_rng(seed).normal(size=size).astype(dtype)
    vectors = checks.real_numbers("`v0`", v0)
    if vectors.ndim not in (1, 2) or len(vectors) != size:
        raise checks.invalid("`v0`", f"of shape ({size},) or ({size}, n)", vectors.shape)
    first: np.ndarray = vectors.reshape(size, -1).sum(axis=1)
    if not np.isfinite(first).all() or not first.any():
        raise checks.invalid("`v0`", "finite and not zero", "vectors whose sum is not")
    # In a unit in which squares of float32 neither overflow nor vanish.
    _, exponent = np.frexp(np.abs(first).max())
    return np.asarray(np.ldexp(first, -exponent), dtype)


@dataclasses.dataclass(frozen=True)
class _Search:
    """The constant parts of a search.

    Attributes:
        operator, tol, options: as for `extreme_eigenpairs`.
        saved: the folder where states are saved, or None.
        bar: the progress bar, which counts products.
    """

    operator: SymmetricOperator
    tol: float
    options: SearchOptions
    saved: StateFolder | None
    bar: progress.Bar

    def run(self, state: LanczosState) -> Eigenpairs:
        """Searches until the requested pairs have converged, as checked with products."""
        dtype = self.operator.dtype
        checked, before = 0, float("inf")
        while True:
            state, pairs = self._converge(state)
            vectors = state.basis.combine(pairs.coefficients).T
            residuals, products = _residuals(self.operator, pairs.values, vectors)
            checked += len(residuals)
            bound = _bound(pairs.values, self.tol, state.norm, dtype, state.products)
            # Without vectors kept from an earlier space, products agree with the recurrence.
            if self._has_ended(state) or not len(state.found) or (residuals <= bound).all():
                break
            excess = float(np.linalg.norm(residuals / bound))
            if excess >= before:
                break  # residuals can't become smaller than the noise of the operator
            before, worst = excess, (residuals / bound).argmax()
            residual = _residual(products[:, worst], pairs.values[worst], vectors[:, worst])
            del products, vectors
            state = self._next(lanczos.extend(state, pairs, residual))
        return Eigenpairs(
            values=pairs.values,
            vectors=vectors,
            residuals=residuals,
            converged=residuals <= bound,
            products=state.products,
            checks=checked,
            smallest=min(state.smallest, len(residuals)),
            confirmed=state.is_whole or self._same(state, pairs.values),
        )

    def _converge(self, state: LanczosState) -> tuple[LanczosState, RitzPairs]:
        """Takes steps until the requested pairs have converged according to the recurrence."""
        try:
            if not state.products:
                state = self._next(state)
            while True:
                pairs = lanczos.ritz(state)
                state = dataclasses.replace(state, norm=pairs.norm)
                bound = _wanted(pairs.values, self.tol, state.norm, self.operator.dtype)
                good = pairs.residuals <= bound
                self.bar.update(state.products - self.bar.n)
                self.bar.set_postfix_str(f"{good.sum()} of {state.wanted} converged")
                if self._has_ended(state):
                    break
                if len(good) == state.wanted and good.all():
                    due = self._products_to_confirm(state, pairs.values)
                    same = self._same(state, pairs.values)
                    if not due or (same and state.products - state.begun >= due):
                        break
                    if not same:
                        state = lanczos.begin_anew(state, pairs)
                if state.is_full:
                    state = lanczos.restart(state)
                state = lanczos.step(self.operator, state)
                if self.saved is not None and state.products % self.options.save_every == 0:
                    self.saved.save(state)
        except NotFiniteError:
            raise
        except BaseException:  # also Ctrl-C
            # After an interruption in the middle of a restart there is no valid state to save.
            if self.saved is not None and state.is_valid:
                self.saved.save(state)
            raise
        if self.saved is not None:
            self.saved.save(state)
        return state, pairs

    def _next(self, state: LanczosState) -> LanczosState:
        if state.is_full:
            state = lanczos.restart(state)
        return lanczos.step(self.operator, state)

    def _has_ended(self, state: LanczosState) -> bool:
        return state.is_whole or state.products >= self.options.max_products

    def _same(self, state: LanczosState, values: np.ndarray) -> bool:
        """Returns whether a search that began anew found the same eigenvalues again."""
        zero = _zero(state.norm, self.operator.dtype)
        return len(state.found) == len(values) and np.allclose(
            values, state.found, rtol=self.tol, atol=zero
        )

    def _products_to_confirm(self, state: LanczosState, values: np.ndarray) -> int:
        """Returns the number of products from a new vector that must find nothing new."""
        dtype, steps = self.operator.dtype, state.products
        confirm, zero = self.options.confirm, _zero(state.norm, dtype)
        if state.coupling <= zero:
            # The space is invariant; it has only one eigenvector of each multiple eigenvalue.
            return max(confirm or 0, CONFIRM)
        if confirm is None:
            ends = values[:1] if state.smallest else values[-1:]
            if state.smallest and state.largest:
                ends = values[[0, -1]]
            copies = repeated(values, self.tol, lanczos.rounding(state.norm, dtype, steps=steps))
            return CONFIRM if np.abs(ends).min() <= zero or copies else 0
        return confirm


def _eigsh(
    operator: SymmetricOperator,
    largest: int,
    smallest: int,
    tol: float,
    first: np.ndarray,
    max_products: int,
    bar: progress.Bar,
) -> Eigenpairs:
    """Computes eigenpairs with ARPACK."""
    before, matrix = operator.products, operator.to_scipy()
    if largest == smallest:
        calls = [("BE", 2 * largest)]
    else:
        calls = [(which, k) for which, k in (("SA", smallest), ("LA", largest)) if k]
    found_values, found_vectors = [], []
    for which, k in calls:
        try:
            found = scipy.sparse.linalg.eigsh(
                matrix, k, which=which, tol=tol, v0=first, maxiter=max(1, max_products // k)
            )
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            found = error.eigenvalues, error.eigenvectors
        except scipy.sparse.linalg.ArpackError as error:
            raise ValueError(f"{error} Try solver='lanczos'.") from error
        bar.update(operator.products - before - bar.n)
        order = np.argsort(found[0])
        found_values.append(found[0][order])
        found_vectors.append(found[1][:, order])
    values = np.concatenate(found_values).astype(np.float64)
    vectors = np.concatenate(found_vectors, axis=1)
    products = operator.products - before
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


def _residuals(
    operator: SymmetricOperator, values: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns |Hv - lambda v| (k,), by one pass over the data, and the products (d, k)."""
    if not len(values):
        return np.zeros(0), vectors
    products = operator @ np.ascontiguousarray(vectors)
    rests = (
        _residual(p, value, v) for p, value, v in zip(products.T, values, vectors.T, strict=True)
    )
    return np.array([np.linalg.norm(rest) for rest in rests]), products


def _residual(product: np.ndarray, value: float, vector: np.ndarray) -> np.ndarray:
    """Returns Hv - lambda v in float64."""
    rest: np.ndarray = product.astype(np.float64) - value * vector
    return rest
