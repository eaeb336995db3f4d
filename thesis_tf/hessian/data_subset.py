"""A fixed part of the data in place of all of it (thesis, section 11.D: 5 %)."""

import dataclasses

import numpy as np
import scipy.linalg

from thesis_tf._core import checks
from thesis_tf.hessian.eigen.eigenpairs import extreme_eigenpairs


def fixed_subset(x, y, part=0.05, *, seed=0):
    """Draws the same examples each time, as many of each class as in the whole set.

    Args:
        x, y: arrays with the same first axis; integer labels (n,) are drawn from class by class.
        part: how many, as a part of all.
        seed: of the draw.

    Returns:
        (x, y) of the examples, in their order.

    Raises:
        ValueError: `part` is not in (0, 1], or the lengths differ.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y):
        raise checks.invalid("`x` and `y`", "of one length", f"{len(x)} and {len(y)}")
    if not 0 < part <= 1:
        raise checks.invalid("`part`", "above 0 and at most 1", part)
    rng = np.random.default_rng(seed)
    count = max(1, round(part * len(x)))
    order = rng.permutation(len(x))
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        # By rank within the class as a part of the class: any prefix has the classes' proportions.
        ranks = np.empty(len(x))
        for label in np.unique(y):
            rows = order[y[order] == label]
            ranks[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        order = np.argsort(ranks, kind="stable")
    rows = np.sort(order[:count])
    return x[rows], y[rows]


@dataclasses.dataclass(frozen=True)
class SubsetComparison:
    """How far the eigenpairs of a subset's Hessian are from the full set's.

    Attributes:
        largest, smallest: `Difference`s of the upper and the lower end.
        full, part: the `Eigenpairs` of both.
    """

    largest: object
    smallest: object
    full: object
    part: object

    def table(self):
        """A table for people."""
        lines = [f"{'end':8} {'full':>11} {'subset':>11} {'difference':>11} {'angle':>7}"]
        spaces = []
        for name, end in (("largest", self.largest), ("smallest", self.smallest)):
            if len(end.subspace_angles):
                middle = np.median(end.subspace_angles)
                spaces.append(f"{name}: median {middle:.1f}°, most {end.subspace_angles[-1]:.1f}°")
            for row in zip(end.full, end.part, end.relative, end.angles, strict=True):
                lines.append(
                    f"{name:8} {row[0]:11.5g} {row[1]:11.5g} {row[2]:11.1%} {row[3]:6.1f}°"
                )
        # Eigenvectors of close eigenvalues turn into one another; the space they span doesn't.
        return "\n".join([*lines, f"Principal angles of the spaces. {'; '.join(spaces)}"])


@dataclasses.dataclass(frozen=True)
class Difference:
    """One end of two spectra, the outermost eigenvalue first.

    Attributes:
        full, part: (k,) eigenvalues.
        relative: (k,), (part - full) / |full|.
        angles: (k,), degrees between eigenvectors of the same rank, from 0 to 90.
        subspace_angles: (k,), principal angles in degrees between the spaces that the k span,
            which don't mind eigenvalues that change places.
    """

    full: np.ndarray
    part: np.ndarray
    relative: np.ndarray
    angles: np.ndarray
    subspace_angles: np.ndarray


def compare_subset(full, part, largest=10, smallest=10, tol=1e-3, **options):
    """Compares the eigenpairs of two operators, on all the data and on a part (section 11.D).

    Args:
        full, part: `HessianOperator`s of one model.
        largest, smallest: eigenpairs at each end.
        tol, **options: of `extreme_eigenpairs`.

    Returns:
        `SubsetComparison`.
    """
    if full.shape != part.shape:
        raise checks.invalid("The operators", "of one shape", f"{full.shape} and {part.shape}")
    a = extreme_eigenpairs(full, largest, smallest, tol, **options)
    b = extreme_eigenpairs(part, largest, smallest, tol, **options)
    lower = slice(0, smallest)
    upper = slice(-1, -largest - 1, -1) if largest else slice(0, 0)
    return SubsetComparison(_difference(a, b, upper), _difference(a, b, lower), a, b)


def _difference(a, b, end):
    u, v = a.vectors[:, end].astype(np.float64), b.vectors[:, end].astype(np.float64)
    return Difference(
        full=a.values[end],
        part=b.values[end],
        relative=(b.values[end] - a.values[end]) / abs(a.values[end]),
        angles=angles(u, v),
        subspace_angles=np.degrees(np.sort(scipy.linalg.subspace_angles(u, v)))
        if u.size
        else np.zeros(0),
    )


def angles(u, v):
    """Degrees between unit columns of two matrices (d, k), from 0 to 90, whatever their signs."""
    return np.degrees(np.arccos(np.clip(abs((u * v).sum(axis=0)), 0.0, 1.0)))
