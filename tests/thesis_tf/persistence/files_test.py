import json
import math

import numpy as np
import pytest

from thesis_tf.persistence import files


def contents(folder):
    return {path.name: path.is_dir() for path in folder.iterdir()}


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "result.npz"

    with files.atomic(path) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == path.parent
        assert partial.suffix == ".npz"  # np.savez would append it to another name
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert contents(path.parent) == {"result.npz": False}


def test_a_file_takes_the_place_of_an_older_one(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    with files.atomic(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert contents(tmp_path) == {"a": False}


@pytest.mark.parametrize("old", ["file", "folder", None])
@pytest.mark.parametrize("begun", ["file", "folder", None])
def test_after_an_error_everything_is_as_it_was(tmp_path, old, begun):
    path = tmp_path / "a"
    make(path, old, "old")
    before = contents(tmp_path)

    def write():
        with files.atomic(path) as partial:
            make(partial, begun, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert contents(tmp_path) == before
    assert read(path, old) == ("old" if old else None)


@pytest.mark.parametrize("old", ["file", "folder", None])
def test_a_folder_takes_the_place_of_anything(tmp_path, old):
    path = tmp_path / "a"
    make(path, old, "old")

    with files.atomic(path) as partial:
        make(partial, "folder", "new")

    assert read(path, "folder") == "new"
    assert contents(tmp_path) == {"a": True}


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    make(tmp_path / "a", "folder", "old")

    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path / "a", "new")

    assert contents(tmp_path) == {"a": True}
    assert read(tmp_path / "a", "folder") == "old"


def test_a_block_that_writes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "a"):
        pass
    assert contents(tmp_path) == {}


def make(path, kind, text):
    if kind == "folder":
        path.mkdir()
        (path / "inside").write_text(text)
    elif kind == "file":
        path.write_text(text)


def read(path, kind):
    if kind is None:
        return path.read_text() if path.exists() else None
    return (path / "inside" if kind == "folder" else path).read_text()


def test_text_and_json(tmp_path):
    files.write_text(tmp_path / "a.txt", "λ = 1\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "λ = 1\n"

    value = {"b": [1, 2.5, None], "a": "σ", "nothing": math.inf}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["b", "a", "nothing"]
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize(
    "value",
    [
        *(math.inf, -math.inf, 1e308, np.float64(np.inf)),
        *("NaN", "Infinity", "-Infinity", "\\NaN", "\\\\Infinity", "\\", "nan", "", "NaN "),
    ],
    ids=repr,
)
def test_json_is_that_of_the_standard_and_loses_nothing(tmp_path, value):
    nested = {"a": [value, {"b": value}], "NaN": (value,)}
    files.write_json(tmp_path / "a.json", nested)

    def refused(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads((tmp_path / "a.json").read_text(), parse_constant=refused)
    assert files.read_json(tmp_path / "a.json") == {"a": [value, {"b": value}], "NaN": [value]}
    assert files.from_json(files.to_json(value, indent=None)) == value
    assert math.isnan(files.from_json(files.to_json(math.nan)))


def test_json_that_was_cut_short(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, 2, 3]})
    path.write_text(path.read_text()[:-4])

    with pytest.raises(
        ValueError, match=r"a\.json is not valid JSON .*: it was cut short or edited"
    ):
        files.read_json(path)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "b.json")


def test_what_json_does_not_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"a": object()})
    assert contents(tmp_path) == {}
