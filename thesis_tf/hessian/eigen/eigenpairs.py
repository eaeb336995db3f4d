"""Eigenpairs of both ends of a spectrum, and how they are searched for."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from thesis_tf._core import checks
from thesis_tf.hessian.results import Result
from thesis_tf.reporting import tables

SOLVERS = ("lanczos", "eigsh")
Solver = Literal["lanczos", "eigsh"]


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """How `extreme_eigenpairs` searches; the defaults suit most operators.

    Attributes:
        solver: "lanczos", or "eigsh": SciPy's ARPACK, called once for each end, or once for both if
            as many are wanted at each.
        ncv: the number of vectors at which the Krylov space is cut down to its best ones; None for
            160, or for as many as `memory_limit` holds, but no fewer than the eigenvalues need. Of
            "lanczos", as are those below but `max_products`.
        memory_limit: bytes for those vectors in memory. If they need more, they are in a file: in
            the folder of the search if it has one.
        max_products: the search ends after so many products, converged or not; "eigsh" looks at
            this when it restarts, and takes more than twice as many as there are eigenvalues to
            find.
        confirm: products from a new random vector, orthogonal to the vectors that were found, when
            all have converged; if it shows another eigenvalue, the search continues with it, until
            such a vector shows none. None takes 20 where an end of the spectrum is at zero, as that
            of a Gauss-Newton matrix, which many vectors share as a rule, and 0 elsewhere.
        save_every: products between saves.
    """

    solver: Solver = "lanczos"
    ncv: int | None = None
    memory_limit: float = 4 << 30
    max_products: int = 1000
    confirm: int | None = None
    save_every: int = 10

    def __post_init__(self) -> None:
        """Checks the fields."""
        checks.one_of("`solver`", self.solver, SOLVERS)
        if self.ncv is not None:
            checks.positive_integer("`ncv`", self.ncv)
        if self.memory_limit < 0:
            raise checks.invalid("`memory_limit`", "a number of bytes", self.memory_limit)
        checks.positive_integer("`max_products`", self.max_products)
        if self.confirm is not None and self.confirm < 0:
            raise checks.invalid("`confirm`", "None, or a number of products", self.confirm)
        checks.positive_integer("`save_every`", self.save_every)


DEFAULT_SEARCH = SearchOptions()


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Eigenpairs(Result):
    """Eigenpairs of both ends, the smallest eigenvalue first.

    Attributes:
        values: (k,), float64.
        vectors: (d, k), of the operator's dtype, unit columns.
        residuals: (k,), |Hv - lambda v|, computed with products.
        converged: (k,), whether the residual is at most tol times |lambda|, where an eigenvalue
            counts as no less than sqrt(epsilon) times the largest |lambda|, plus a bound of
            rounding errors.
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

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        rows: list[list[tables.Cell]] = []
        for i in range(len(self.values) - 1, -1, -1):
            upper = i >= self.smallest
            end = f"largest {len(self.values) - i}" if upper else f"smallest {i + 1}"
            mark = "yes" if self.converged[i] else "NO"
            rows.append([end, f"{self.values[i]:.5g}", f"{self.residuals[i]:.1e}", mark])
        return ("end", "eigenvalue", "residual", "converged"), rows

    def summary(self) -> dict[str, Any]:
        """Returns the outermost eigenvalues and how the search went, as a plain dict."""
        count = len(self.values)
        return {
            "largest": float(self.values[-1]) if count > self.smallest else None,
            "smallest": float(self.values[0]) if self.smallest else None,
            "eigenvalues": count,
            "converged": int(self.converged.sum()),
            "max_residual": float(self.residuals.max()) if count else None,
            "products": self.products,
        }
