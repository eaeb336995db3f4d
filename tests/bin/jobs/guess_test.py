import numpy as np
import pytest

from bin.jobs import guess


@pytest.mark.parametrize(
    ("accuracy", "labels", "doubtful"),
    [
        (0.5, [0, 1] * 50, True),
        (0.59, [0, 1] * 50, True),  # two standard errors are .1
        (0.61, [0, 1] * 50, False),
        (0.9, [0] * 90 + [1] * 10, True),
        (0.97, [0] * 90 + [1] * 10, False),
        (None, [0, 1] * 50, False),
        (1.0, [0] * 100, True),  # one class only
    ],
)
def test_a_guess(accuracy, labels, doubtful):
    assert bool(guess.doubts(accuracy, np.array(labels))) == doubtful
