import dataclasses

import numpy as np
import pytest

from thesis_tf import datasets


@pytest.fixture
def splits():
    """100 numbered examples, 70 + 20 + 10, with three classes."""
    x = np.arange(100, dtype=np.float32).reshape(-1, 1)
    y = np.arange(100) % 3
    return datasets.Splits(
        train=datasets.Split(x[:70], y[:70]),
        validation=datasets.Split(x[70:90], y[70:90]),
        test=datasets.Split(x[90:], y[90:]),
        class_names=("a", "b", "c"),
        name="numbers",
    )


def test_a_split_has_a_label_an_example():
    with pytest.raises(ValueError, match=r"`y` must be as long as `x`, 3 examples.*2 labels"):
        datasets.Split(np.zeros((3, 1)), np.zeros(2, np.int64))


def test_a_data_set_is_frozen(splits):
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.train = splits.test


def test_num_classes_counts_names_not_labels(splits):
    assert dataclasses.replace(splits, class_names=("a", "b", "c", "d")).num_classes == 4


def test_take_draws_distinct_examples_with_their_own_labels(splits):
    taken = splits.take(train=30, validation=20, seed=1)

    assert len(taken.train) == 30
    assert len(np.unique(taken.train.x)) == 30
    assert taken.train.x.max() < 70
    np.testing.assert_array_equal(taken.train.y, taken.train.x[:, 0] % 3)
    # All examples of a split, in random order.
    np.testing.assert_array_equal(np.sort(taken.validation.x[:, 0]), np.arange(70, 90))
    assert taken.test is splits.test
    assert taken.class_names == splits.class_names
    assert taken.name == "numbers"


def test_take_is_not_the_beginning_of_the_split(splits):
    # A random subset of 30 of 70 is the first 30 with probability 1 / C(70, 30) < 1e-19.
    assert splits.take(train=30).train.x.max() >= 30


def test_take_depends_on_the_seed_alone(splits):
    one, other = splits.take(train=30, seed=1), splits.take(train=30, validation=5, test=5, seed=1)
    np.testing.assert_array_equal(one.train.x, other.train.x)

    assert not np.array_equal(one.train.x, splits.take(train=30, seed=2).train.x)


def test_a_smaller_take_begins_a_larger_one(splits):
    small, large = splits.take(train=10, seed=4), splits.take(train=40, seed=4)

    np.testing.assert_array_equal(small.train.x, large.train.x[:10])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_take_of_more_than_there_is(splits, split):
    there = len(getattr(splits, split))

    with pytest.raises(
        ValueError, match=rf"`{split}` must be at most {there}, .* numbers\. Received: {there + 1}"
    ):
        splits.take(**{split: there + 1})


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (-1, ValueError), (0.5, TypeError)])
def test_take_of_what_is_no_number_of_examples(splits, count, error):
    with pytest.raises(error, match="`train` must be a positive integer"):
        splits.take(train=count)


def test_stacked_puts_the_splits_end_to_end(splits):
    x, y, slices = splits.stacked()

    np.testing.assert_array_equal(x[:, 0], np.arange(100))
    np.testing.assert_array_equal(y, np.arange(100) % 3)
    assert slices == {"train": slice(0, 70), "validation": slice(70, 90), "test": slice(90, 100)}
    assert x.dtype == np.float32


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
    splits = datasets.load(path, seed=3).take(train=100, validation=7, test=20, seed=5)
    x, _, slices = splits.stacked()
    first = splits.gather({split: arrays[f"x_{split}"][:, 0] for split in ("train", "test")})
    np.testing.assert_array_equal(first, x[:, 0])
    assert slices["test"] == slice(107, 127)


def test_values_of_another_length_are_errors(archive):
    path, arrays = archive
    splits = datasets.load(path)
    with pytest.raises(ValueError, match="given for the source's test examples"):
        splits.gather({"train": arrays["y_train"]})
    for test in (arrays["y_test"][:-1], arrays["y_train"]):
        with pytest.raises(ValueError, match="must be 50, one for each test example of data"):
            splits.take(test=3).gather({"train": arrays["y_train"], "test": test})
