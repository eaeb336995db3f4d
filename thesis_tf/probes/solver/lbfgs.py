"""Preconditioned L-BFGS for smooth convex functions whose evaluations are what costs."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from thesis_tf._core.types import Array

CORRECTION_PAIRS = 10  # 20 take as many steps
REFRESH_AFTER = 4  # evaluations
PATIENCE = 20  # steps without progress, after which rounding is all that is left


class Point(Protocol):
    """A function at one x: float64 arrays `x` and `gradient` and the value."""

    @property
    def x(self) -> Array:
        """The argument."""

    @property
    def gradient(self) -> Array:
        """The gradient there."""

    @property
    def value(self) -> float:
        """The function's value there."""


P = TypeVar("P", bound=Point)


def minimize(
    evaluate: Callable[[Array, P], P],
    point: P,
    preconditioner_at: Callable[[P], Callable[[Array], Array]],
    done: Callable[[Array], bool],
    *,
    max_evaluations: int,
    rounding: float,
) -> tuple[P, int]:
    """Minimizes a smooth convex function with a backtracking line search.

    Args:
        evaluate: (x, a point nearby) -> the `Point` at x.
        point: the initial point.
        preconditioner_at: point -> a linear function that applies about the inverse of the Hessian
            there. It is called at the initial point and once more a few evaluations later.
        done: gradient -> whether to stop.
        max_evaluations: the most evaluations to make, that of `point` among them.
        rounding: the relative error of values.

    Returns:
        The point with the least gradient, and the number of evaluations. The search also ends
        where rounding leaves nothing to gain.
    """
    precondition = preconditioner_at(point)
    preconditioned = precondition(point.gradient)
    best, least, lowest = point, dot(point.gradient, point.gradient), point.value
    pairs: collections.deque[_Pair] = collections.deque(maxlen=CORRECTION_PAIRS)
    evaluations, stalled, refreshed = 1, 0, False
    while not done(point.gradient) and evaluations < max_evaluations and stalled < PATIENCE:
        direction = -_two_loop(point.gradient, preconditioned, pairs)
        slope = dot(direction, point.gradient)
        length = 1.0
        while True:
            new = evaluate(point.x + length * direction, point)
            evaluations += 1
            rise = new.value - point.value
            # Close to the minimum values differ by no more than the rounding of their sums.
            allowed = 1e-4 * length * slope + rounding * abs(point.value)
            if rise <= allowed or evaluations >= max_evaluations:
                break
            # The minimum of the parabola through both values and the slope, within bounds.
            fraction = -slope * length / (2 * (rise - length * slope))
            length *= min(max(0.1, fraction), 0.5)
        if evaluations > REFRESH_AFTER and not refreshed:
            refreshed, precondition = True, preconditioner_at(new)
            preconditioned = precondition(point.gradient)
            for index, pair in enumerate(pairs):
                pairs[index] = pair._replace(preconditioned_turn=precondition(pair.turn))
        new_preconditioned = precondition(new.gradient)
        change, turn = new.x - point.x, new.gradient - point.gradient
        inner = dot(change, turn)
        if inner > 0:
            pairs.append(_Pair(change, turn, new_preconditioned - preconditioned, inner))
        point, preconditioned = new, new_preconditioned
        square, stalled = dot(point.gradient, point.gradient), stalled + 1
        if square < least:
            best, least, stalled = point, square, 0
        if point.value < lowest - rounding * abs(lowest):
            lowest, stalled = point.value, 0
    return best, evaluations


class _Pair(NamedTuple):
    """One step: the change of x and of the gradient, and their inner product."""

    change: Array
    turn: Array
    preconditioned_turn: Array
    inner: float


def _two_loop(gradient: Array, preconditioned: Array, pairs: collections.deque[_Pair]) -> Array:
    """The product of the approximate inverse Hessian with the gradient (Nocedal and Wright, 7.4).

    The preconditioner is linear, so that its product with the first loop's result is a sum of its
    products with the gradients: one application per step in place of two.
    """
    q, r, alphas = gradient, preconditioned, []
    for pair in reversed(pairs):
        alphas.append(dot(pair.change, q) / pair.inner)
        q = q - alphas[-1] * pair.turn
        r = r - alphas[-1] * pair.preconditioned_turn
    if pairs:
        r = r * (pairs[-1].inner / dot(pairs[-1].turn, pairs[-1].preconditioned_turn))
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - dot(pair.turn, r) / pair.inner) * pair.change
    return r


def dot(a: Array, b: Array) -> float:
    """The inner product. Not BLAS', whose threads would go on spinning against TensorFlow's."""
    return float((a * b).sum())
