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


SPELLED = {
    "sklearn": ("X_train", "y_train", "X_test", "y_test"),
    "capitals": ("X_TRAIN", "Y_TRAIN", "X_VAL", "Y_VAL"),
    "bare": ("x", "y"),
    "bare capital": ("X", "y", "X_dev", "y_dev"),
    "training": ("x_training", "y_training", "x_testing", "y_testing", "x_eval", "y_eval"),
}


@pytest.mark.parametrize("case", SPELLED)
def test_names_that_people_give_to_splits(tmp_path, case):
    sizes = {"train": 20, "validation": 6, "test": 4}
    arrays, given = {}, set()
    for name in SPELLED[case]:
        split = datasets.splits.split_of(name.partition("_")[2] or "train")
        first = {"train": 0, "validation": 20, "test": 26}[split]
        arrays[name] = (X if name[0] in "xX" else Y)[first : first + sizes[split]]
        given.add(split)
    path = save(tmp_path / "toy.npz", **arrays)
    assert datasets.has_labels(path)
    splits, inputs = datasets.load(path), datasets.load_inputs(path)
    for split, size in sizes.items():
        one, other = getattr(splits, split), getattr(inputs, split)
        assert one.source == other.source == (split if split in given else "train")
        assert len(one) == (size if split in given - {"train"} else len(one))
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(X[:, 0].searchsorted(one.x[:, 0]) % 3, one.y)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"X_train": X, "Y_train": Y}, "must be one x_train.*: x_train and X_train"),
        ({"x": X}, "must be one x_train.*: x_train and x"),
        ({"x_holdout": X, "y_holdout": Y}, "Unknown: x_holdout"),
        ({"x_mean": X[0]}, "Unknown: x_mean"),
        ({"x_val": X, "x_dev": X, "y_val": Y, "y_dev": Y}, "one x_validation.*: x_val and x_dev"),
    ],
)
def test_names_that_are_not_clear_are_refused_with_and_without_labels(tmp_path, extra, message):
    path = save(tmp_path / "toy.npz", **{"x_train": X, "y_train": Y, **extra})
    for load in (datasets.load, datasets.load_inputs):
        with pytest.raises(ValueError, match=message):
            load(path)


def test_what_is_left_out_is_said(tmp_path):
    path = save(tmp_path / "toy.npz", x_train=X, y_train=Y, weights=X, names=X)
    assert "left out the arrays weights, names" in datasets.load(path).describe()
