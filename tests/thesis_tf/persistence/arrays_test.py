import zipfile

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
    with pytest.raises(ValueError, match="it isn't a zip archive"):
        arrays.load(tmp_path / "a.npy")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        arrays.load(tmp_path / "a.npz")


def test_python_objects_are_neither_saved_nor_loaded(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="Python objects, which are not saved"):
        arrays.save(tmp_path / "a.npz", {"x": objects})
    assert list(tmp_path.iterdir()) == []
    records = np.zeros(2, dtype=[("a", int), ("b", object)])
    np.savez(tmp_path / "b.npz", x=objects, y=np.ones(2), z=records)
    with pytest.raises(ValueError, match=r"b\.npz must be .* Received: pickled .* \(x, z\)"):
        arrays.load(tmp_path / "b.npz")
    assert arrays.names(tmp_path / "b.npz") == ["x", "y", "z"]
    np.testing.assert_array_equal(arrays.load(tmp_path / "b.npz", names=["y"])["y"], np.ones(2))


@pytest.mark.filterwarnings("ignore:Stored array in format")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", [float, object])
def test_versions_of_the_format(version, dtype, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file, file.open("x.npy", "w") as member:
        np.lib.format.write_array(member, np.ones(3, dtype), version)
    if dtype is float:
        np.testing.assert_array_equal(arrays.load(tmp_path / "a.npz")["x"], np.ones(3))
        return
    with pytest.raises(ValueError, match=r"a\.npz must be "):
        arrays.load(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["x.npy", "notes.txt"])
def test_something_else_in_the_file(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr(name, b"not an array")
    with pytest.raises(ValueError, match=r"a\.npz must be a complete .npz file"):
        arrays.load(tmp_path / "a.npz")
