import errno
import math

import numpy as np
import pytest

from bin.reproduction.engine import results


def test_what_is_saved_is_what_is_read(tmp_path):
    arrays = {"floats": np.linspace(0, 1, 5, dtype=np.float32), "bytes": np.arange(6, dtype="u1")}
    result = {
        "number": 1.5, "text": "ü | x", "none": None, "yes": True, "rows": [{"a": 1}, {"a": 2}],
        "scalar": np.float32(0.5), "tuple": (1, 2), "nan": math.nan, "arrays": arrays,
        "list of arrays": [np.eye(2), np.zeros((0, 3))],
    }  # fmt: skip
    results.save(tmp_path / "r", result)
    found = results.load(tmp_path / "r")
    assert found["tuple"] == [1, 2]
    assert found["scalar"] == 0.5
    assert math.isnan(found["nan"])
    for key in ("number", "text", "none", "yes", "rows"):
        assert found[key] == result[key]
    for key, array in arrays.items():
        np.testing.assert_array_equal(found["arrays"][key], array)
        assert found["arrays"][key].dtype == array.dtype
    assert found["list of arrays"][1].shape == (0, 3)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"a": {1: 2}}, r"result\.a must have names as keys\. Received: 1"),
        ({"a": [object()]}, r"result\.a\.0 must be a number.* Received: object"),
        ({"a": np.array([None])}, r"result\.a must be a number.* Received: ndarray"),
        ({"a": {1, 2}}, r"Received: set"),
    ],
)
def test_what_cannot_be_read_again_is_refused_and_nothing_is_written(tmp_path, result, said):
    with pytest.raises(TypeError, match=said):
        results.save(tmp_path / "r", result)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    results.save(tmp_path / "r", {"a": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        results.save(tmp_path / "r", {"a": 2})
    assert results.load(tmp_path / "r") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
