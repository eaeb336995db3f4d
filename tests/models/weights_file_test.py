import keras
import pytest

import models
from models import weights_file


def test_classes_are_those_of_the_last_dense_layer(tmp_path):
    model = models.build("mnist_convnet", (28, 28, 1), 7)
    model.save_weights(tmp_path / "a.weights.h5")
    assert weights_file.classes_in(tmp_path / "a.weights.h5") == 7
    head = next(i for i, layer in enumerate(model.layers) if layer.name == "flatten")
    bare = keras.Model(model.inputs, model.layers[head].output)
    bare.save_weights(tmp_path / "b.weights.h5")
    assert weights_file.classes_in(tmp_path / "b.weights.h5") is None


@pytest.mark.parametrize(
    ("content", "message"), [(None, "an existing file"), (b"PK not HDF5", "not HDF5")]
)
def test_files_that_are_no_weights(tmp_path, content, message):
    path = tmp_path / "x.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        weights_file.existing(path)


def test_the_reason_is_one_line_that_names_a_layer(tmp_path):
    models.build("mlp", (28, 28, 1), 10).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="could not be loaded") as raised:
        models.build("mnist_convnet", (28, 28, 1), 10).load_weights(tmp_path / "a.weights.h5")
    said = str(weights_file.unfitting("mnist_convnet", tmp_path / "a.weights.h5", raised.value))
    assert "conv1" in said
    assert "\n" not in said
    assert len(said) < 700
    said = str(weights_file.unfitting("mlp", tmp_path, OSError("cut short\nand more")))
    assert said.endswith("which doesn't fit: cut short.")
