import pytest
import tensorflow as tf

from thesis_tf._core import saved_model


class Scaled(tf.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    def scaled(self, x):
        return {"y": self.factor * x}


def save(factor, path):
    module = Scaled(factor)
    saved_model.save(module, path, {"scaled": module.scaled.get_concrete_function()})


def served(path):
    """Returns the outputs of the SavedModel for 1 and 2 with plain TensorFlow."""
    signature = tf.saved_model.load(str(path)).signatures["scaled"]
    return signature(x=tf.constant([1.0, 2.0]))["y"].numpy().tolist()


def test_plain_tensorflow_serves_it_and_a_newer_one_takes_its_place(tmp_path):
    path = tmp_path / "new" / "folder"
    save(3.0, path)
    assert served(path) == [3.0, 6.0]
    saved_model.check_path(path)
    save(5.0, path)
    assert served(path) == [5.0, 10.0]
    assert [child.name for child in path.parent.iterdir()] == ["folder"]


def test_an_error_leaves_what_was_there(tmp_path, monkeypatch):
    save(3.0, tmp_path / "m")

    def fail(module, folder, **_):
        tf.io.gfile.makedirs(f"{folder}/variables")
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    for name in ("m", "other"):
        with pytest.raises(OSError, match="disk full"):
            save(5.0, tmp_path / name)
    assert [child.name for child in tmp_path.iterdir()] == ["m"]
    assert served(tmp_path / "m") == [3.0, 6.0]


def test_only_a_new_or_empty_folder_or_a_saved_model_will_do(tmp_path):
    saved_model.check_path(tmp_path / "new")
    saved_model.check_path(str(tmp_path))
    (tmp_path / "file").write_text("hours of work")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("hours of work")
    for name in ("file", "folder"):
        with pytest.raises(FileExistsError, match="`path` must be a new or empty folder, or a"):
            saved_model.check_path(tmp_path / name)
