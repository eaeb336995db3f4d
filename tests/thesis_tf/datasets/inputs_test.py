import numpy as np
import pytest

from thesis_tf import datasets

X = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize("name", ["spiral", "spiral15", "manifold10d", "manifold10d_25"])
def test_synthetic_data_are_drawn_apart_for_each_split(name):
    splits = datasets.load_inputs(name, examples=(30, 20, 10), seed=3)
    parts = [splits.train.x, splits.validation.x, splits.test.x]
    assert [len(part) for part in parts] == [30, 20, 10]
    assert all(part.shape[1] == (2 if "spiral" in name else 10) for part in parts)
    assert len(np.unique(np.concatenate(parts), axis=0)) == 60
    again = datasets.load_inputs(name, examples=(30, 20, 10), seed=3)
    np.testing.assert_array_equal(again.train.x, splits.train.x)
    assert splits.train.y is splits.train.x
    assert splits.name == name
    assert splits.class_names == ()


def test_an_archive_of_examples(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=X)
    splits = datasets.load_inputs(str(path))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [32, 4, 4]
    assert splits.train.x.dtype == np.float64
    assert splits.name == "mine"
    every = np.concatenate([splits.train.x, splits.validation.x, splits.test.x])
    np.testing.assert_array_equal(np.sort(every, axis=0), np.sort(X, axis=0))
    few = datasets.load_inputs(path, examples=(5, 2, 3))
    assert [len(few.train), len(few.validation), len(few.test)] == [5, 2, 3]


def test_labels_and_other_arrays_are_passed_over(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=X, x_test=X[:7], y_train=np.arange(3), more=np.ones(2))
    splits = datasets.load_inputs(path)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [36, 4, 7]


def test_pixels_become_numbers_up_to_1(tmp_path):
    splits = datasets.load_inputs("mnist_mini", examples=(50, 10, 10))
    assert splits.train.x.dtype == np.float32
    assert splits.train.x.shape == (50, 28, 28, 1)
    assert (splits.train.x.min(), splits.train.x.max()) == (0, 1)
    np.savez(tmp_path / "whole.npz", x=np.arange(80).reshape(40, 2))
    assert datasets.load_inputs(tmp_path / "whole.npz").train.x.max() > 2


@pytest.mark.parametrize(
    ("arrays", "error", "match"),
    [
        ({"z": X}, ValueError, "x or x_train"),
        ({}, ValueError, "no arrays"),
        ({"x": np.where(X > 1, np.nan, X)}, ValueError, "finite"),
        ({"x": X[:2]}, ValueError, "at least 3 examples"),
        ({"x": X[:, 0]}, ValueError, "of shape"),
        ({"x": np.array(["a", "b"])}, ValueError, "an array of numbers"),
        ({"x_train": X, "x_test": X[:, :2]}, ValueError, "as `x_train` is"),
    ],
)
def test_bad_archives(arrays, error, match, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(error, match=match):
        datasets.load_inputs(tmp_path / "bad.npz")


def test_bad_names(tmp_path):
    with pytest.raises(ValueError, match=r"one of spiral.* The nearest are: spiral"):
        datasets.load_inputs("spyral")
    with pytest.raises(FileNotFoundError, match="an existing file"):
        datasets.load_inputs(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="a complete"):
        datasets.load_inputs(tmp_path / "text.npz")


def test_which_data_have_labels(tmp_path):
    for name, arrays in {
        "labeled": {"x_train": X, "y_train": np.arange(40) % 2},
        "bad": {"x_train": X, "y_train": X},
        "inputs": {"x": X},
        "of_test_examples": {"x_train": X, "x_test": X, "y_test": np.arange(40)},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    assert datasets.has_labels(tmp_path / "labeled.npz")
    assert datasets.has_labels(str(tmp_path / "bad.npz"))
    assert not datasets.has_labels(tmp_path / "inputs.npz")
    assert not datasets.has_labels(tmp_path / "of_test_examples.npz")
    for name in datasets.INPUT_NAMES:
        assert datasets.has_labels(name) == (name in datasets.NAMES)
    assert datasets.has_labels("tfds:mnist")
    assert datasets.has_labels(tmp_path)  # a folder of images
    with pytest.raises(FileNotFoundError, match="an existing file"):
        datasets.has_labels("none.npz")
    with pytest.raises(ValueError, match=r"one of spiral.* The nearest are: spiral"):
        datasets.has_labels("spyral")
    (tmp_path / "inputs.npz").write_bytes((tmp_path / "inputs.npz").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a complete \.npz file"):
        datasets.has_labels(tmp_path / "inputs.npz")
