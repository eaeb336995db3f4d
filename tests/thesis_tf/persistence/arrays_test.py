import numpy as np
import pytest

from thesis_tf.persistence import arrays

VALUES = {"x": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"]), "n": np.array(3)}


def test_what_is_saved_is_loaded(tmp_path):
    arrays.save(tmp_path / "a.npz", VALUES)
    found = arrays.load(tmp_path / "a.npz")
    assert list(found) == list(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_short(kept, tmp_path):
    path = tmp_path / "a.npz"
    arrays.save(path, VALUES)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=r"a.npz must be a complete .npz file"):
        arrays.load(path)


def test_another_kind_of_file(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it holds a single array"):
        arrays.load(tmp_path / "a.npy")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        arrays.load(tmp_path / "a.npz")


def test_python_objects_are_neither_saved_nor_loaded(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="Python objects, which are not saved"):
        arrays.save(tmp_path / "a.npz", {"x": objects})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "b.npz", x=objects)
    with pytest.raises(ValueError, match="must be a complete"):
        arrays.load(tmp_path / "b.npz")
