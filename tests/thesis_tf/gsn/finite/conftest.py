"""What rounding may do to the stationary distribution of a small chain."""

import numpy as np
import pytest


@pytest.fixture
def roundings():
    """A function from a chain's n states and the m terms of a transition to an error of pi in L1.

    A sum of m products of ratios is right to m + 3 roundings of itself. By O'Cinneide (1993),
    transitions that are off by a part eta move each pi_i by a part 2 n eta; elimination adds n
    roundings. pi sums to 1.
    """
    return lambda n, m: (2 * n * (m + 3) + n) * np.finfo(float).eps
