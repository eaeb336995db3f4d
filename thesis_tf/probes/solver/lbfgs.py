"""Preconditioned L-BFGS for smooth convex functions that are expensive to evaluate."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from thesis_tf._core.types import Array

CORRECTION_PAIRS = 10  # with 20 pairs the number of steps is the same
REFRESH_AFTER = 4  # evaluations, after which the preconditioner is computed again
PATIENCE = 20  # the most steps without progress, after which only rounding errors are left


class Evaluated(Protocol):
    """A function at one x: float64 arrays `x` and `gradient` and the value."""

    @property
    def x(self) -> Array:
        """The argument."""

    @property
    def gradient(self) -> Array:
        """The gradient at x."""

    @property
    def value(self) -> float:
        """The function's value at x."""


P = TypeVar("P", bound=Evaluated)


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
        evaluate: (x, a nearby point) -> the `Evaluated` at x.
        point: the initial point.
        preconditioner_at: point -> a linear function that applies the approximate inverse of the
            Hessian there. It is called at the initial point, and again a few evaluations later.
        done: gradient -> whether to stop.
        max_evaluations: the maximum number of evaluations, including that of `point`.
        rounding: the relative rounding error of values.

    Returns:
        The point with the smallest gradient, and the number of evaluations. The search also ends
        when rounding prevents further progress.
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
            # Close to the minimum, differences of values are not larger than rounding errors.
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
    """Returns the approximate inverse Hessian times the gradient (Nocedal and Wright, 7.4).

    The preconditioner is linear, so its product with the result of the first loop is a sum of its
    products with gradients: it is applied once per step instead of twice.
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
    """Returns the inner product without BLAS, whose threads compete with those of TensorFlow."""
    return float((a * b).sum())
