import numpy as np
import pytest

from bin.jobs import spread


def test_the_ratio_of_standard_deviations():
    data = np.random.default_rng(0).normal(size=(50, 2, 3))
    assert spread.ratio(0.1 * data + 7, data) == pytest.approx(0.1)
    assert spread.ratio(data, np.ones((5, 2, 3))) == np.inf


@pytest.mark.parametrize(("ratio", "doubtful"), [(1.0, 0), (0.31, 0), (0.1, 1), (5.0, 1)])
def test_a_sentence_if_the_spread_is_another(ratio, doubtful):
    assert len(spread.doubts(ratio)) == doubtful
