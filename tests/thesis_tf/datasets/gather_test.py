import numpy as np
import pytest

from thesis_tf import datasets


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 200), ("test", 50)):
        arrays[f"x_{split}"] = rng.normal(size=(n, 3))
        arrays[f"y_{split}"] = np.arange(n) % 4
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path, arrays


def test_values_follow_their_examples_through_holding_out_and_drawing(archive):
    path, arrays = archive
    splits = datasets.load(path, seed=3).take(train=100, valid=7, test=20, seed=5)
    x, _, slices = splits.stacked()
    first = splits.gather({split: arrays[f"x_{split}"][:, 0] for split in ("train", "test")})
    np.testing.assert_array_equal(first, x[:, 0])
    assert slices["test"] == slice(107, 127)


def test_missing_or_short_values_are_errors(archive):
    path, arrays = archive
    splits = datasets.load(path)
    with pytest.raises(ValueError, match="given for the source's test examples"):
        splits.gather({"train": arrays["y_train"]})
    with pytest.raises(ValueError, match="at least 50, one for each row of data. Received: 49"):
        splits.gather({"train": arrays["y_train"], "test": arrays["y_test"][:-1]})
