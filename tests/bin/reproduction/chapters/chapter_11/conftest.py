"""A result of figures 11.3, 11.4, 11.7 and 11.8 that needs no training."""

import numpy as np
import pytest


@pytest.fixture
def best_steps():
    """Best steps along 5 eigenvectors at each end, of which all claims hold.

    They are 100 / |lambda| long along negative curvature, where they lower the loss by 0.3 to 0.7,
    and 1 / lambda along positive curvature, where they lower it by 0.01 to 0.05.
    """
    values = np.array([-5.0, -4, -3, -2, -1, 2, 4, 6, 8, 10])
    alphas = np.where(values < 0, 100, 1) / abs(values)
    decreases = [0.3, 0.4, 0.5, 0.6, 0.7, 0.01, 0.02, 0.03, 0.04, 0.05]
    steps = [
        {
            "alpha": alpha,
            "loss": 2 - decrease,
            "decrease": decrease,
            "displacement": alpha,
            "slope": 1.0,
            "curvature": value,
            "evaluations": 30,
        }
        for value, alpha, decrease in zip(values, alphas, decreases, strict=True)
    ]
    return {"values": values, "steps": steps, "notes": []}
