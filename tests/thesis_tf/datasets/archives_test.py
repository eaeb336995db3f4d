import pickle

import numpy as np
import pytest

from thesis_tf import datasets

X = np.arange(30 * 2, dtype=np.float32).reshape(30, 2)
Y = np.arange(30) % 3


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_an_archive_of_all_it_can_hold(tmp_path):
    path = save(
        tmp_path / "toy.npz",
        x_train=X[:20],
        y_train=Y[:20, np.newaxis],
        x_validation=X[20:24],
        y_validation=Y[20:24],
        x_test=X[24:],
        y_test=Y[24:],
        class_names=np.array(["rouge", "vert", "bleu", "été"]),
        mean=X.mean(axis=0),
    )

    for where in (path, str(path)):
        splits = datasets.load(where)

        assert splits.name == "toy"
        assert splits.class_names == ("rouge", "vert", "bleu", "été")
        assert splits.num_classes == 4
        x, y, slices = splits.stacked()
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)
        assert slices == {"train": slice(0, 20), "validation": slice(20, 24), "test": slice(24, 30)}


def test_an_archive_of_training_data_alone(tmp_path):
    path = save(tmp_path / "toy.npz", x_train=X, y_train=Y)
    splits = datasets.load(path, seed=2)

    assert [len(splits.train), len(splits.validation), len(splits.test)] == [24, 3, 3]
    assert splits.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(splits.validation.x, datasets.load(path, seed=2).validation.x)


@pytest.mark.parametrize("spelling", ["validation", "valid", "val"])
def test_spellings_of_the_validation_split(tmp_path, spelling):
    held_out = {f"x_{spelling}": X[20:], f"y_{spelling}": Y[20:]}
    path = save(tmp_path / "toy.npz", x_train=X[:20], y_train=Y[:20], **held_out)

    for splits in (datasets.load(path), datasets.load_inputs(path)):
        np.testing.assert_array_equal(splits.validation.x, X[20:])


def test_two_validation_splits(tmp_path):
    arrays = {f"{array}_{split}": X for array in "xy" for split in ("train", "val", "valid")}
    path = save(tmp_path / "toy.npz", **arrays)

    for load in (datasets.load, datasets.load_inputs):
        with pytest.raises(ValueError, match=r"must be one x_validation.*: x_val and x_valid\."):
            load(path)


def test_an_error_in_the_arrays_names_the_data_set(tmp_path):
    path = save(tmp_path / "toy.npz", x_train=X * np.nan, y_train=Y)

    with pytest.raises(ValueError, match=r"`x_train` of toy must be finite"):
        datasets.load(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"Received: no arrays\. Missing: x_train, y_train\."),
        ({"x_train": X}, r"Missing: y_train\."),
        ({"x_train": X, "y_train": Y, "y_test": Y}, r"Missing: x_test\."),
        ({"x_train": X, "y_train": Y, "x_new": X, "y_new": Y}, r"Unknown: x_new, y_new\."),
        ({"train_x": X, "train_y": Y}, r"Missing: x_train, y_train\."),
    ],
)
def test_arrays_that_lack_their_partner_or_are_unknown(tmp_path, arrays, message):
    path = save(tmp_path / "toy.npz", **arrays)

    with pytest.raises(ValueError, match=r"The arrays in .*toy\.npz must be .*" + message):
        datasets.load(path)


@pytest.mark.parametrize("names", [np.array([1, 2, 3]), np.array("abc"), np.array([b"a", b"b"])])
def test_class_names_that_are_no_strings(tmp_path, names):
    path = save(tmp_path / "toy.npz", x_train=X, y_train=Y, class_names=names)

    with pytest.raises(ValueError, match=r"`class_names` in .* must be an array of strings"):
        datasets.load(path)


class Bomb:
    """Raises when it is unpickled, like an attack that runs code at this point."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("key", ["x_train", "class_names"])
def test_python_objects_in_an_archive_are_refused(tmp_path, key):
    objects = np.array([Bomb()] * 30, dtype=object)
    path = save(tmp_path / "toy.npz", **({"x_train": X, "y_train": Y} | {key: objects}))

    with pytest.raises(ValueError, match=rf"Received: pickled Python objects \({key}\), which are"):
        datasets.load(path)


def test_a_pickle_named_npz_is_refused(tmp_path):
    path = tmp_path / "toy.npz"
    path.write_bytes(pickle.dumps({"x_train": Bomb()}))

    with pytest.raises(
        ValueError, match=r"toy\.npz must be a complete \.npz file.*isn't a zip archive\.$"
    ):
        datasets.load(path)


def test_a_file_that_was_cut_short(tmp_path):
    path = save(tmp_path / "toy.npz", x_train=X, y_train=Y)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(ValueError, match=r"a complete \.npz file of arrays; it was cut short"):
        datasets.load(path)


def test_a_file_with_a_changed_byte(tmp_path):
    path = save(tmp_path / "toy.npz", x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    content[content.index(X[3:5].tobytes())] ^= 1
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"toy\.npz must be .*damaged.*CRC"):
        datasets.load(path)


def test_a_zip_of_something_else(tmp_path):
    import zipfile

    path = tmp_path / "toy.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train.npy", b"not an array")
        file.writestr("y_train.npy", b"\x93NUMPY\x01\x00")

    with pytest.raises(ValueError, match=r"toy\.npz"):
        datasets.load(path)
