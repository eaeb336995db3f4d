import pytest

from bin.common import inputs


def test_the_first_call_writes_and_later_ones_compare(tmp_path):
    inputs.check(tmp_path, {"data": "a", "reconstruction": "b"})
    inputs.check(tmp_path, {"data": "a", "reconstruction": "b"})
    with pytest.raises(ValueError, match="The data changed since"):
        inputs.check(tmp_path, {"data": "c", "reconstruction": "b"})
    with pytest.raises(ValueError, match="The data and the reconstruction changed"):
        inputs.check(tmp_path, {"data": "c", "reconstruction": "d"})


def test_other_workers_write_nothing(tmp_path):
    inputs.check(tmp_path, {"data": "a"}, write=False)
    assert not list(tmp_path.iterdir())
