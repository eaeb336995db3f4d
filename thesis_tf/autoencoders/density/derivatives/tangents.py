"""Directions of the manifold of the data: the spectrum of the symmetric part of dr/dx (3.3.6)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_tf._core.types import Array
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# Half the difference of the eigenvalues 1 along the manifold and 0 across it.
_MOST_SKEW = 0.5
_MOST_RESIDUAL = 0.05


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tangents(TabularResult):
    """Directions in which r changes a displaced point least, by increasing contraction.

    They are eigenvectors of the symmetric part (J + J') / 2 of J = dr/dx, whose eigenvalues are not
    those of J unless J is symmetric, as it is if r(x) - x is the gradient of a log-density.

    Attributes:
        eigenvalues: (n, k) of the symmetric part of dr/dx, the largest first: near 1 along the
            manifold; across it, where data of variance v lie, near v / (v + sigma^2). All d of
            them, or the k largest ones.
        directions: (n, d, k), unit vectors as columns.
        dimension: (n,), the number of these eigenvalues above the threshold.
        asymmetry: (n,), |J - J'|_F / 2|J|_F, as by `conservativity`.
        skew: (n,), the largest singular value of the antisymmetric part (J - J') / 2.
        residual: (n,), the most by which these eigenvalues may differ from exact ones; 0 for all d.
    """

    eigenvalues: Array
    directions: Array
    dimension: Array
    asymmetry: Array
    skew: Array
    _: dataclasses.KW_ONLY
    residual: Array

    def __repr__(self) -> str:
        """Returns the numbers of points and directions."""
        points, size = self.directions.shape[:2]
        return (
            f"Tangents({points} points of {size} values, dimension {np.median(self.dimension):g})"
        )

    def warnings(self) -> list[str]:
        """Returns sentences on why the directions can't be trusted; none if nothing says so.

        The best r has a symmetric J, so the antisymmetric part is an error of J, and an error
        without a preferred symmetry has a symmetric part of the same size. By Weyl's inequality,
        such an error changes eigenvalues of the symmetric part by up to `skew`. From 0.5 on, a
        direction across the manifold (0) can't be told from one along it (1), and the directions
        are off by up to 30 degrees and more (Davis and Kahan).
        """
        said = []
        skew = float(np.median(self.skew))
        if skew > _MOST_SKEW:
            said.append(
                "dr/dx is far from symmetric, as if r(x) - x were no gradient of a log-density: the"
                f" norm of its antisymmetric part is {skew:.2g} (median). Eigenvalues of its"
                " symmetric part may be off by as much, so tangent directions, their number and"
                " curvature mean little."
            )
        off = float(self.residual.max())
        if off > _MOST_RESIDUAL:
            said.append(
                "Eigenvalues of the symmetric part of dr/dx have not converged: they may be off by"
                f" up to {off:.2g}."
            )
        size, count = self.directions.shape[1:]
        full = int((self.dimension == count).sum()) if count < size else 0
        if full:
            said.append(
                f"At {full} of {len(self.dimension)} points all {count} computed eigenvalues of the"
                " symmetric part of dr/dx are above the threshold: the dimension may be larger."
            )
        return said

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        quartiles = np.percentile(self.eigenvalues, [25, 50, 75], axis=0).T
        rows = [(rank, *values) for rank, values in enumerate(quartiles.tolist(), start=1)]
        return ("rank of eigenvalue of (J + J')/2", "25 %", "median", "75 %"), rows

    def summary(self) -> dict[str, Any]:
        """Returns the number of points, and medians over them, as a plain dict."""
        ends = {"largest": self.eigenvalues[:, 0]}
        if self.eigenvalues.shape[1] == self.directions.shape[1]:
            ends["smallest"] = self.eigenvalues[:, -1]
        return {
            "points": len(self.dimension),
            "dimension": float(np.median(self.dimension)),
            "asymmetry": float(np.median(self.asymmetry)),
            "norm_of_antisymmetric_part": float(np.median(self.skew)),
            **{f"{n}_eigenvalue_of_symmetric_part": float(np.median(v)) for n, v in ends.items()},
        }
