"""Rules for integrals over [0, 1], by name."""

import numpy as np

from thesis_tf._core import checks


def _gauss_legendre(count):
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


def _midpoint(count):
    return (np.arange(count) + 0.5) / count, np.full(count, 1 / count)


def _trapezoid(count):
    _at_least_two("trapezoid", count)
    weights = np.full(count, 1 / (count - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, count), weights


def _simpson(count):
    if count < 3 or count % 2 == 0:
        raise checks.invalid("`num_points`", "odd and at least 3 for the simpson rule", count)
    weights = np.full(count, 2 / 3)
    weights[1::2] = 4 / 3
    weights[[0, -1]] = 1 / 3
    return np.linspace(0, 1, count), weights / (count - 1)


def _at_least_two(rule, count):
    if count < 2:
        raise checks.invalid("`num_points`", f"at least 2 for the {rule} rule", count)


_RULES = {
    "gauss_legendre": _gauss_legendre,
    "midpoint": _midpoint,
    "trapezoid": _trapezoid,
    "simpson": _simpson,
}
RULES = tuple(_RULES)


def rule(name, count):
    """Returns the nodes in [0, 1] and the weights of a rule, (count,) each, in float64.

    Of a polynomial "gauss_legendre" is exact up to degree 2 count - 1, "simpson" up to 3,
    "midpoint" and "trapezoid" up to 1.

    Raises:
        ValueError: an unknown name, or a number of points that the rule doesn't have.
    """
    checks.one_of("`rule`", name, RULES)
    return _RULES[name](checks.positive_integer("`num_points`", count))
