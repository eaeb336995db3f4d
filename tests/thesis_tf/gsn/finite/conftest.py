"""A bound for rounding errors of the stationary distribution of a small chain."""

import numpy as np
import pytest


@pytest.fixture
def roundings():
    """Returns a function from n states and m terms of a transition to an L1 error of pi.

    A sum of m products of ratios has a relative error of m + 3 roundings. By O'Cinneide (1993),
    transitions with a relative error eta change each pi_i by a relative error 2 n eta; elimination
    adds n roundings. pi sums to 1.
    """
    return lambda n, m: (2 * n * (m + 3) + n) * np.finfo(float).eps
