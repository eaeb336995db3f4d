"""Eigenpairs of both ends of a spectrum, and the options of their search."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from thesis_tf._core import checks
from thesis_tf.hessian.eigen import lanczos
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import SavedResult

SOLVERS = ("lanczos", "eigsh")
Solver = Literal["lanczos", "eigsh"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of `extreme_eigenpairs`; the defaults are suitable for most operators.

    Only `solver` and `max_products` apply to "eigsh".

    Attributes:
        solver: "lanczos", or "eigsh": SciPy's ARPACK, called once per end, or once for both ends if
            the same number of eigenvalues is requested at each.
        ncv: the size at which the Krylov space is restarted; None for 160, or for as many vectors
            as fit in `memory_limit`, but at least as many as the eigenvalues need.
        memory_limit: bytes for these vectors in memory. If they need more, they are kept in a file,
            in the folder of the search if it has one.
        max_products: the search ends after this number of products, converged or not. "eigsh"
            checks it only at restarts, and needs more than twice as many products as eigenvalues.
        confirm: the number of additional products after all eigenpairs have converged. They start
            from a random vector that is orthogonal to the found eigenvectors. If another
            eigenvalue is found, the search continues with it; this is repeated until no other
            eigenvalue is found. None uses 20 if eigenvectors were found that share an eigenvalue,
            or if an end of the spectrum is at zero, as for a Gauss-Newton matrix, where many
            usually do; and else 0.
        save_every: the number of products between saves.
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


def repeated(values: np.ndarray, tol: float, rounding: float) -> bool:
    """Returns whether two of the sorted eigenvalues are equal, up to rounding.

    A residual of tol |lambda| changes an eigenvalue by about tol^2 |lambda|.
    """
    bound = rounding + tol**2 * np.abs(values[1:])
    return bool((np.diff(values) <= bound).any())


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Eigenpairs(SavedResult):
    """Eigenpairs of both ends, the smallest eigenvalue first.

    Attributes:
        values: (k,), float64.
        vectors: (d, k), unit columns in the operator's dtype.
        residuals: (k,), |Hv - lambda v|, computed with products.
        converged: (k,), whether the residual is at most tol times |lambda| plus a bound of rounding
            errors, where |lambda| is replaced by sqrt(epsilon) times the largest |lambda| if it is
            smaller than that. Other eigenvectors of the same eigenvalue may be missing, see
            `confirmed`.
        products: the number of products of the search.
        checks: the number of products for the residuals: k, and k more each time that the search
            continued because a residual was larger than according to the recurrence.
        smallest: the number of eigenpairs from the lower end; the others are from the upper end.
        confirmed: whether a second search, from a random vector orthogonal to all `vectors`, found
            no other eigenvalues (`SearchOptions.confirm`). If not, a multiple eigenvalue may be
            there only once, and the eigenvalues next to it are further inside than they seem.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    products: int
    checks: int
    smallest: int
    _: dataclasses.KW_ONLY
    confirmed: bool = False

    def warnings(self) -> list[str]:
        """Returns sentences on what has not converged, and on copies that may be missing."""
        found = []
        left = ~np.asarray(self.converged, bool)
        if left.any():
            found.append(
                f"{left.sum()} of {len(left)} eigenpairs have not converged: |Hv - lambda v| is up"
                f" to {self.residuals[left].max():.2g}."
            )
        if not self.confirmed and self._has_copies():
            found.append(
                "Eigenvalues are multiple, and other copies of them may be missing, so that the"
                " eigenvalues next to them are further inside than they seem. Use"
                ' solver="lanczos" with SearchOptions(confirm=20).'
            )
        return found

    def _has_copies(self) -> bool:
        norm = float(np.abs(self.values).max(initial=0.0))
        rounding = lanczos.rounding(norm, self.vectors.dtype, steps=self.products)
        return repeated(self.values, 0.0, rounding)

    def table(self) -> str:
        """Returns the result as a text table; below, whether copies were searched for."""
        ends = (self.smallest, len(self.values) - self.smallest)
        if self.confirmed or self._has_copies() or max(ends) < 2:
            return super().table()
        said = (
            "Copies of multiple eigenvalues may be missing (SearchOptions.confirm looks for them)."
        )
        return f"{super().table()}\n{said}"

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        rows: list[list[tables.Cell]] = []
        for i in range(len(self.values) - 1, -1, -1):
            upper = i >= self.smallest
            end = f"largest {len(self.values) - i}" if upper else f"smallest {i + 1}"
            mark = "yes" if self.converged[i] else "NO"
            rows.append([end, f"{self.values[i]:.5g}", f"{self.residuals[i]:.1e}", mark])
        return ("end", "eigenvalue", "residual", "converged"), rows

    def summary(self) -> dict[str, Any]:
        """Returns the extreme eigenvalues and statistics of the search, as a plain dict."""
        count = len(self.values)
        return {
            "largest": float(self.values[-1]) if count > self.smallest else None,
            "smallest": float(self.values[0]) if self.smallest else None,
            "eigenvalues": count,
            "converged": int(self.converged.sum()),
            "confirmed": bool(self.confirmed),
            "max_residual": float(self.residuals.max()) if count else None,
            "products": self.products,
        }
