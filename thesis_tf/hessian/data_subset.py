"""A fixed subset instead of all data (thesis, section 11.D: 5 %)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed
from thesis_tf._core.types import Verbose
from thesis_tf.hessian.eigen.eigenpairs import DEFAULT_SEARCH, Eigenpairs, SearchOptions
from thesis_tf.hessian.eigen.lanczos import SymmetricOperator
from thesis_tf.hessian.eigen.solvers import extreme_eigenpairs
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import SavedResult


def fixed_subset(
    x: npt.ArrayLike, y: npt.ArrayLike, *, fraction: float = 0.05, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a fixed subset with the same fraction of each class.

    Every call with the same arguments returns the same examples.

    Args:
        x, y: arrays with the same first axis; labels (n,) or (n, 1) that are integers, booleans or
            strings are drawn class by class.
        fraction: the fraction of all examples, in (0, 1].
        seed: the seed of the draw.

    Returns:
        (x, y) of the subset, in the original order of the examples.

    Raises:
        ValueError: `fraction` is not in (0, 1], the lengths differ, or there are no examples.
    """
    x, y = np.asarray(x), np.asarray(y)
    for name, values in (("`x`", x), ("`y`", y)):
        if not values.ndim:
            raise checks.invalid(name, "an array of examples", repr(values)[:80])
    if len(x) != len(y):
        raise checks.invalid("`x` and `y`", "of one length", f"{len(x)} and {len(y)}")
    if not len(x):
        raise checks.invalid("`x`", "at least one example", "none")
    fraction = checks.probability("`fraction`", fraction)
    rng = np.random.default_rng(checked_seed(seed))
    count = max(1, round(fraction * len(x)))
    order = rng.permutation(len(x))
    if y.size == len(y) and y.dtype.kind in "iubUS":
        # By rank within the class, as a fraction: every prefix has the classes' proportions.
        ranks, labels = np.empty(len(x)), y.reshape(-1)
        for label in np.unique(labels):
            rows = order[labels[order] == label]
            ranks[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        order = np.argsort(ranks, kind="stable")
    rows = np.sort(order[:count])
    return x[rows], y[rows]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SpectrumDifference(SavedResult):
    """One end of two spectra, the outermost eigenvalue first.

    Attributes:
        full, subset: (k,) eigenvalues.
        relative: (k,), (subset - full) / |full|.
        angles: (k,), degrees between eigenvectors of the same rank, from 0 to 90.
        subspace_angles: (k,), principal angles in degrees between the spaces that the k span,
            which stay small even if eigenvalues change their order.
    """

    full: np.ndarray
    subset: np.ndarray
    relative: np.ndarray
    angles: np.ndarray
    subspace_angles: np.ndarray

    def rows(self, end: str) -> list[list[tables.Cell]]:
        """Returns a row for each eigenvalue: its name, both values, the difference, the angle."""
        columns = zip(self.full, self.subset, self.relative, self.angles, strict=True)
        return [
            [f"{end} {rank}", f"{a:.5g}", f"{b:.5g}", f"{apart:.1%}", f"{angle:.1f}°"]
            for rank, (a, b, apart, angle) in enumerate(columns, 1)
        ]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        return _HEADINGS, self.rows("rank")

    def summary(self) -> dict[str, Any]:
        """Returns the largest differences, as a plain dict."""
        return {
            "eigenvalues": len(self.full),
            "max_relative": float(abs(self.relative).max(initial=0.0)),
            "max_angle": float(self.angles.max(initial=0.0)),
            "max_subspace_angle": float(self.subspace_angles.max(initial=0.0)),
        }


_HEADINGS = ("end", "full", "subset", "difference", "angle")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SubsetComparison(SavedResult):
    """The differences between the eigenpairs of a subset's Hessian and those of all data.

    Attributes:
        largest, smallest: the differences at the upper and the lower end.
        full, subset: the `Eigenpairs` of both.
    """

    largest: SpectrumDifference
    smallest: SpectrumDifference
    full: Eigenpairs
    subset: Eigenpairs

    def __repr__(self) -> str:
        """Returns the differences at both ends."""
        return f"{type(self).__name__}(largest={self.largest}, smallest={self.smallest})"

    def warnings(self) -> list[str]:
        """Returns sentences on eigenpairs that have not converged; none if all have."""
        of = {"all data": self.full, "the subset": self.subset}
        return [f"Of {name}, {said}" for name, pairs in of.items() for said in pairs.warnings()]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        return _HEADINGS, [*self.largest.rows("largest"), *self.smallest.rows("smallest")]

    def table(self) -> str:
        """Returns a text table, with the principal angles of both ends below."""
        # Eigenvectors of close eigenvalues are sensitive to the subset; their span is not.
        spaces = [
            f"{name}: median {np.median(end.subspace_angles):.1f}°, most"
            f" {end.subspace_angles[-1]:.1f}°"
            for name, end in (("largest", self.largest), ("smallest", self.smallest))
            if len(end.subspace_angles)
        ]
        return f"{super().table()}\nPrincipal angles of the spaces. {'; '.join(spaces)}"

    def summary(self) -> dict[str, Any]:
        """Returns the largest differences of both ends, as a plain dict."""
        return {"largest": self.largest.summary(), "smallest": self.smallest.summary()}


def compare_subset(
    full: SymmetricOperator,
    subset: SymmetricOperator,
    *,
    largest: int = 10,
    smallest: int = 10,
    tol: float = 1e-3,
    search: SearchOptions = DEFAULT_SEARCH,
    seed: int = 0,
    verbose: Verbose = "auto",
) -> SubsetComparison:
    """Compares the eigenpairs of two operators, on all the data and on a subset (section 11.D).

    Args:
        full, subset: `HessianOperator`s of one model.
        largest, smallest: eigenpairs at each end.
        tol, search, seed, verbose: as for `extreme_eigenpairs`.

    Returns:
        `SubsetComparison`.
    """
    if full.shape != subset.shape:
        raise checks.invalid("The operators", "of one shape", f"{full.shape} and {subset.shape}")
    a, b = (
        extreme_eigenpairs(
            operator,
            largest=largest,
            smallest=smallest,
            tol=tol,
            search=search,
            seed=seed,
            verbose=verbose,
        )
        for operator in (full, subset)
    )
    lower = slice(0, smallest)
    upper = slice(-1, -largest - 1, -1) if largest else slice(0, 0)
    return SubsetComparison(_difference(a, b, upper), _difference(a, b, lower), a, b)


def _difference(a: Eigenpairs, b: Eigenpairs, end: slice) -> SpectrumDifference:
    u, v = a.vectors[:, end].astype(np.float64), b.vectors[:, end].astype(np.float64)
    return SpectrumDifference(
        full=a.values[end],
        subset=b.values[end],
        relative=(b.values[end] - a.values[end]) / abs(a.values[end]),
        angles=angles(u, v),
        subspace_angles=np.degrees(np.sort(scipy.linalg.subspace_angles(u, v)))
        if u.size
        else np.zeros(0),
    )


def angles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns degrees between unit columns of two matrices (d, k), from 0 to 90."""
    degrees: np.ndarray = np.degrees(np.arccos(np.clip(abs((u * v).sum(axis=0)), 0.0, 1.0)))
    return degrees
