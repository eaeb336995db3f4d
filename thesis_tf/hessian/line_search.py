"""The loss along a direction, and its quadratic model (thesis, sections 11.2.2 and 11.2.3).

A step of size alpha along a unit vector v goes from theta to theta - alpha (g'v) v, with g the
gradient: the component along v of a gradient step with learning rate alpha. The quadratic model of
the loss is L - alpha (g'v)^2 + alpha^2 (g'v)^2 v'Hv / 2. Its stationary point alpha = 1 / v'Hv
(Eq 11.2) is a minimum for a positive curvature and a maximum for a negative one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thesis_tf._core import checks
from thesis_tf.hessian.operators import Operator
from thesis_tf.reporting import tables
from thesis_tf.reporting.results import SavedResult


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class LineSearch(SavedResult):
    """The loss along a direction.

    Attributes:
        alphas: (n,) step sizes, in units of a learning rate.
        loss: (n,), L(theta - alpha (g'v) v).
        quadratic: (n,), the loss according to the quadratic model.
        initial_loss: the loss at alpha = 0.
        slope: g'v.
        curvature: v'Hv.
        optimum: 1 / v'Hv, the quadratic model's stationary point.
    """

    alphas: np.ndarray
    loss: np.ndarray
    quadratic: np.ndarray
    initial_loss: float
    slope: float
    curvature: float
    optimum: float

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        columns = (self.alphas.tolist(), self.loss.tolist(), self.quadratic.tolist())
        rows = [list(row) for row in zip(*columns, strict=True)]
        return ("alpha", "loss", "quadratic model"), rows

    def summary(self) -> dict[str, Any]:
        """Returns the loss at the origin, the lowest one, and the derivatives, as a plain dict."""
        finite = self.loss[np.isfinite(self.loss)]
        return {
            "initial_loss": self.initial_loss,
            "lowest_loss": float(finite.min()) if len(finite) else None,
            "slope": self.slope,
            "curvature": self.curvature,
            "optimum": self.optimum,
        }


@dataclasses.dataclass(frozen=True, repr=False)
class BestStep(SavedResult):
    """The step along a direction that lowers the loss most.

    Attributes:
        alpha: the step size, in units of a learning rate; negative if the step ascends the
            gradient.
        loss: the loss after the step.
        decrease: the decrease of the loss, at least 0.
        displacement: alpha (g'v), the distance that the parameters move along -v.
        slope: g'v.
        curvature: v'Hv.
        evaluations: the number of evaluations of the loss.
    """

    alpha: float
    loss: float
    decrease: float
    displacement: float
    slope: float
    curvature: float
    evaluations: int

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[tables.Cell]]]:
        return tuple(self.summary()), [list(self.summary().values())]

    def summary(self) -> dict[str, Any]:
        """Returns the fields as a plain dict."""
        return dataclasses.asdict(self)


def line_search(
    operator: Operator,
    direction: npt.ArrayLike,
    alphas: npt.ArrayLike,
    *,
    gradient: npt.ArrayLike | None = None,
    curvature: float | None = None,
) -> LineSearch:
    """Computes the loss at theta - alpha (g'v) v for every alpha (figures 11.1 and 11.2).

    Args:
        operator: a `HessianOperator`.
        direction: v (d,), which is normalized to a unit vector.
        alphas: (n,) step sizes.
        gradient: g (d,), if it is known; None computes it.
        curvature: v'Hv, if it is known; None computes it by one product.

    Returns:
        `LineSearch`.

    Raises:
        ValueError: the direction is zero, not finite, or of another length.
    """
    line = _Line(operator, direction, gradient, curvature)
    alphas = np.atleast_1d(checks.real_numbers("`alphas`", alphas))
    if alphas.ndim != 1:
        raise checks.invalid("`alphas`", "of shape (n,)", alphas.shape)
    initial_loss = operator.loss()
    return LineSearch(
        alphas=alphas,
        loss=np.array([line.loss(alpha * line.slope) for alpha in alphas]),
        quadratic=initial_loss + line.slope**2 * (alphas**2 * line.curvature / 2 - alphas),
        initial_loss=initial_loss,
        slope=line.slope,
        curvature=line.curvature,
        optimum=_ratio(1.0, line.curvature),
    )


def best_step(
    operator: Operator,
    direction: npt.ArrayLike,
    *,
    gradient: npt.ArrayLike | None = None,
    curvature: float | None = None,
    displacements: tuple[float, float] = (1e-4, 1e2),
    rounds: int = 4,
) -> BestStep:
    """Finds the step that lowers the loss most, over several orders of magnitude in both signs.

    The first round tries displacements of both signs, spaced by half a power of ten. Each further
    round tries two displacements on each side of the best one so far, at a third of the previous
    spacing. So the lowest of several minima is found if they are at least half a power of ten apart
    (figures 11.3 and 11.4).

    Args:
        operator: a `HessianOperator`.
        direction: v (d,), which is normalized to a unit vector.
        gradient: g (d,), if it is known; None computes it.
        curvature: v'Hv, if it is known; None computes it by one product.
        displacements: the smallest and the largest |alpha (g'v)| of the first round.
        rounds: the number of rounds; the accuracy is half a power of ten / 3^(rounds - 1).

    Returns:
        `BestStep`; a displacement of 0 if no step lowers the loss.

    Raises:
        ValueError: the direction is zero, not finite, or of another length; or a bad range.
    """
    rounds = checks.positive_integer("`rounds`", rounds)
    if not 0 < displacements[0] < displacements[1] < np.inf:
        raise checks.invalid("`displacements`", "two increasing positive numbers", displacements)
    line = _Line(operator, direction, gradient, curvature)
    low, high = np.log10(displacements)
    tried: dict[float, float] = {0.0: operator.loss()}

    def evaluate(displacement: float) -> None:
        if displacement not in tried:
            loss = line.loss(displacement)
            tried[displacement] = loss if np.isfinite(loss) else float("inf")

    apart = 0.5
    for exponent in np.arange(low, high + apart / 2, apart):
        for sign in (1.0, -1.0):
            evaluate(float(sign * 10.0**exponent))
    best = min(tried, key=tried.__getitem__)
    for _ in range(rounds - 1):
        apart /= 3
        if best:
            for factor in (-2, -1, 1, 2):
                evaluate(best * 10.0 ** (factor * apart))
            best = min(tried, key=tried.__getitem__)
    return BestStep(
        alpha=_ratio(best, line.slope),
        loss=tried[best],
        decrease=tried[0.0] - tried[best],
        displacement=best,
        slope=line.slope,
        curvature=line.curvature,
        evaluations=len(tried),
    )


class _Line:
    """The loss on the line through the operator's parameters along -v."""

    def __init__(
        self,
        operator: Operator,
        direction: npt.ArrayLike,
        gradient: npt.ArrayLike | None,
        curvature: float | None,
    ) -> None:
        direction = checks.real_numbers("`direction`", direction).reshape(-1)
        if len(direction) != operator.shape[0]:
            raise checks.invalid("`direction`", f"of shape ({operator.shape[0]},)", direction.shape)
        norm = np.linalg.norm(direction)
        if not (np.isfinite(norm) and norm > 0):
            raise checks.invalid("`direction`", "finite and not zero", f"one of norm {norm}")
        self._operator = operator
        self._direction = (direction / norm).astype(operator.dtype)
        gradient = operator.gradient() if gradient is None else gradient
        wide = self._direction.astype(np.float64)
        found = checks.real_numbers("`gradient`", gradient)
        if found.shape != wide.shape:
            raise checks.invalid("`gradient`", f"of shape {wide.shape}", found.shape)
        self.slope = float(found @ wide)
        if curvature is None:
            curvature = wide @ (operator @ self._direction).astype(np.float64)
        self.curvature = float(curvature)
        self._origin = operator.parameters.numpy()

    def loss(self, displacement: float) -> float:
        """Returns the loss at theta - displacement v."""
        step = self._operator.dtype.type(displacement)
        return self._operator.loss(self._origin - step * self._direction)


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("inf")
