"""r(x) - x on a grid: in a plane through the data, or along a line (figures 3.5 and 3.7)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Array, ArrayLike
from thesis_tf.autoencoders.density.derivatives import spectra
from thesis_tf.reporting.results import SavedResult
from thesis_tf.reporting.tables import Cell

if TYPE_CHECKING:
    from thesis_tf.autoencoders.density.score import ScoreEstimator

_MOST_EXAMPLES = 3000
_CURVE_POINTS = 400


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ScoreField(SavedResult):
    """The moves r(x) - x from the points of a grid.

    Attributes:
        points: (m, ...), the points of the grid.
        reconstruction: (m, ...), r at these points.
        data: (n, ...), the examples, at most 3,000 of them.
        center: (d,), the origin of the plane or line in the space of the d values of a point.
        axes: (d, 2), unit vectors along the plane as columns; (1, 1) for points with one value.
        spacing: the distance of neighbors in the grid.
    """

    points: Array
    reconstruction: Array
    data: Array
    center: Array
    axes: Array
    spacing: float

    def project(self, points: ArrayLike) -> Array:
        """Returns the coordinates (n, 2), or (n, 1), of points (n, ...) in the plane or line."""
        return _project(points, self.center, self.axes)

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        shown = np.percentile(self._moves(), [0, 25, 50, 75, 100]).tolist()
        return ("", "least", "25 %", "median", "75 %", "most"), [("|r(x) - x|", *shown)]

    def summary(self) -> dict[str, Any]:
        """Returns the number of points, and the median and the largest move, as a plain dict."""
        moves = self._moves()
        return {
            "points": len(self.points),
            "median_move": float(np.median(moves)),
            "largest_move": float(moves.max()),
        }

    def _moves(self) -> Array:
        return np.linalg.norm(_flat(self.reconstruction) - _flat(self.points), axis=1)


def score_field(
    estimator: "ScoreEstimator", data: ArrayLike, *, num_arrows: int = 41, margin: float = 0.5
) -> ScoreField:
    """Computes r(x) on a grid over the data.

    For data with more than two values, the grid lies in the plane of their two largest principal
    components. For data with one value, it has 400 points on a line.

    Args:
        estimator: a `ScoreEstimator`.
        data: (n, ...) array of examples.
        num_arrows: the number of points along the longer side of a plane.
        margin: the distance by which the grid extends beyond the data, in units of their extent.

    Returns:
        `ScoreField`; `draw_score_field` draws it.

    Raises:
        TypeError, ValueError: the data don't have a floating dtype, aren't finite, or are equal.
    """
    arrays.checked_points("`data`", data, at_least=1)
    data = np.asarray(data)
    if np.ptp(data, axis=0).max() == 0:
        raise checks.invalid("`data`", "of examples that differ", f"{len(data)} equal ones")
    shape = data.shape[1:]
    center, axes = _plane(_flat(data).astype(np.float64))
    few = data[:: -(-len(data) // _MOST_EXAMPLES)]
    if axes.shape[1] == 1:
        low, high = data.min(), data.max()
        reach = margin * (high - low)
        line = np.linspace(low - reach, high + reach, _CURVE_POINTS, dtype=data.dtype)
        points, spacing = line.reshape(-1, *shape), float(line[1] - line[0])
    else:
        shown = _project(few, center, axes)
        low, high = shown.min(axis=0), shown.max(axis=0)
        # Constant values also need some room.
        extent = np.maximum(high - low, 0.1 * (high - low).max())
        low, high = ((low + high) / 2 + sign * (0.5 + margin) * extent for sign in (-1, 1))
        counts = np.maximum(9, np.round(num_arrows * extent / extent.max())).astype(int)
        sides = [np.linspace(*ends) for ends in zip(low, high, counts, strict=True)]
        grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
        points = (center + grid @ axes.T).reshape(-1, *shape).astype(data.dtype)
        spacing = float(min((high - low) / counts))
    ends = np.asarray(estimator.reconstruct(points))
    return ScoreField(points, ends, few, center, axes, spacing)


def _plane(flat: Array) -> tuple[Array, Array]:
    """Returns the center (d,) and axes (d, 2) of two principal components; all of d <= 2 values."""
    size = flat.shape[1]
    if size <= 2:
        return np.zeros(size), np.eye(size)
    center = flat.mean(axis=0)
    centered = flat - center
    if size > spectra.DENSE:
        return center, spectra.principal_axes(centered, 2)
    return center, np.linalg.eigh(centered.T @ centered)[1][:, :-3:-1]


def _project(points: ArrayLike, center: Array, axes: Array) -> Array:
    return np.asarray((_flat(points) - center) @ axes)


def _flat(x: ArrayLike) -> Array:
    x = np.asarray(x)
    return np.reshape(x, (len(x), -1))
