import pytest

from thesis_tf.probes.plots.series import merged, missing


def test_names_keep_the_order_of_each_list():
    assert merged([["a", "b", "d"], ["a", "c", "d", "e"]]) == ["a", "c", "b", "d", "e"]
    assert merged([]) == []


@pytest.mark.parametrize(("value", "expected"), [(None, True), (float("nan"), True), (0.0, False)])
def test_missing_values(value, expected):
    assert missing(value) is expected
