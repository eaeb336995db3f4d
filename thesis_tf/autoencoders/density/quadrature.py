"""Rules for integrals over [0, 1], by name."""

from collections.abc import Callable

import numpy as np

from thesis_tf._core import checks
from thesis_tf._core.types import Array


def trapezoid_weights(spacing: Array) -> Array:
    """Returns the weights (n,) of the trapezoidal rule on n points, (n - 1,) distances apart."""
    return np.concatenate([spacing[:1], spacing[1:] + spacing[:-1], spacing[-1:]]) / 2


def _gauss_legendre(count: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


def _midpoint(count: int) -> tuple[Array, Array]:
    return (np.arange(count) + 0.5) / count, np.full(count, 1 / count)


def _trapezoid(count: int) -> tuple[Array, Array]:
    if count < 2:
        raise checks.invalid("`num_points`", "at least 2 for the trapezoid rule", count)
    return np.linspace(0, 1, count), trapezoid_weights(np.full(count - 1, 1 / (count - 1)))


def _simpson(count: int) -> tuple[Array, Array]:
    if count < 3 or count % 2 == 0:
        raise checks.invalid("`num_points`", "odd and at least 3 for the simpson rule", count)
    weights = np.full(count, 2 / 3)
    weights[1::2] = 4 / 3
    weights[[0, -1]] = 1 / 3
    return np.linspace(0, 1, count), weights / (count - 1)


_RULES: dict[str, Callable[[int], tuple[Array, Array]]] = {
    "gauss_legendre": _gauss_legendre,
    "midpoint": _midpoint,
    "trapezoid": _trapezoid,
    "simpson": _simpson,
}
RULES = tuple(_RULES)


def rule(name: str, count: int) -> tuple[Array, Array]:
    """Returns the nodes in [0, 1] and the weights of a rule, (count,) each, in float64.

    "gauss_legendre" is exact for polynomials up to degree 2 count - 1, "simpson" up to 3,
    "midpoint" and "trapezoid" up to 1.

    Raises:
        ValueError: an unknown name, or a number of points for which the rule doesn't exist.
    """
    checks.one_of("`rule`", name, RULES)
    return _RULES[name](checks.positive_integer("`num_points`", count))
