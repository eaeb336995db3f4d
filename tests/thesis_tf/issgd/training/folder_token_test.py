import pytest

from thesis_tf.issgd.stores import RunTakenError
from thesis_tf.issgd.training.folder_token import FILE, FolderToken


def test_the_name_is_kept_and_the_folder_held_by_one(tmp_path):
    first = FolderToken(tmp_path / "run")
    with first:
        assert (tmp_path / "run" / FILE).read_text() == first.text
        with (
            pytest.raises(RunTakenError, match="Another process trains in"),
            FolderToken(tmp_path / "run"),
        ):
            pass
    with FolderToken(tmp_path / "run") as second:
        assert second.text == first.text


def test_the_first_block_that_ends_lets_the_folder_go(tmp_path):
    token = FolderToken(tmp_path)
    with token:
        with token:
            pass
        with FolderToken(tmp_path):
            pass
    with token, pytest.raises(RunTakenError), FolderToken(tmp_path):
        pass


def test_an_error_lets_the_folder_go(tmp_path):
    with pytest.raises(KeyError), FolderToken(tmp_path):
        raise KeyError
    with FolderToken(tmp_path):
        pass


def test_without_a_folder_names_differ():
    with FolderToken(None) as one, FolderToken(None) as other:
        assert one.text != other.text
