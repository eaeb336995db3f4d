import itertools
import re

import numpy as np
import pytest

from thesis_tf import datasets
from thesis_tf.datasets.assemble import MOST_UNNAMED_CLASSES, Source, assemble, assemble_inputs


def numbered(n, first=0, classes=3):
    """Returns examples that contain their number, with labels that follow from it."""
    numbers = np.arange(first, first + n)
    return numbers.reshape(-1, 1).astype(np.float32), numbers % classes


def numbers_in(split):
    return split.x[:, 0].astype(int).tolist()


@pytest.mark.parametrize(("n", "tenth"), [(100, 10), (109, 10), (20, 2), (19, 1), (5, 1)])
def test_both_held_out_splits_are_a_tenth_and_all_are_disjoint(n, tenth):
    splits = assemble("numbers", Source(numbered(n)))

    assert len(splits.validation) == len(splits.test) == tenth
    parts = [numbers_in(part) for part in (splits.train, splits.validation, splits.test)]
    assert sorted(itertools.chain(*parts)) == list(range(n))
    for part in (splits.train, splits.validation, splits.test):
        assert numbers_in(part) == sorted(numbers_in(part))
        np.testing.assert_array_equal(part.y, np.array(numbers_in(part)) % 3)


def test_only_what_is_missing_is_held_out():
    splits = assemble("numbers", Source(numbered(100), test=numbered(7, first=500)))

    assert numbers_in(splits.test) == list(range(500, 507))
    assert len(splits.validation) == 10
    assert len(splits.train) == 90

    splits = assemble("numbers", Source(numbered(100), validation=numbered(7, first=500)))

    assert numbers_in(splits.validation) == list(range(500, 507))
    assert len(splits.test) == 10


def test_given_splits_are_left_as_they_are():
    x, y = numbered(20)
    splits = assemble("numbers", Source((x, y), validation=(x[:5], y[:5]), test=(x[5:9], y[5:9])))

    assert splits.train.x is x
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 5, 4]


def test_the_split_depends_on_the_seed_alone():
    one, same, other = (assemble("numbers", Source(numbered(200)), seed=seed) for seed in (3, 3, 4))

    assert numbers_in(one.validation) == numbers_in(same.validation)
    assert numbers_in(one.test) == numbers_in(same.test)
    assert numbers_in(one.validation) != numbers_in(other.validation)


def test_the_held_out_tenth_is_drawn_evenly():
    # Over 400 seeds, each of 20 examples is in `validation` (2 of 20) 40 times on average, with a
    # standard deviation of sqrt(400 * 0.1 * 0.9) = 6; five deviations are a bound for all 20.
    counts = np.zeros(20, int)
    for seed in range(400):
        counts[numbers_in(assemble("numbers", Source(numbered(20)), seed=seed).validation)] += 1

    assert counts.sum() == 800
    assert np.abs(counts - 40).max() <= 30


def drawn(counts, seed=0):
    """Returns the numbers of examples of each class in train, validation and test."""
    y = np.repeat(np.arange(len(counts)), counts)
    splits = assemble("sizes", Source((np.arange(len(y))[:, np.newaxis] / 9, y)), seed=seed)
    return [
        np.bincount(part.y, minlength=len(counts))
        for part in (splits.train, splits.validation, splits.test)
    ]


@pytest.mark.parametrize(
    "counts",
    [[30, 30, 30], [100, 100, 100], [7, 7, 6], [95, 3, 2], [50] * 8, [2] * 10, [900] + [1] * 30],
)
def test_each_class_has_its_share_of_held_out_examples(counts):
    n = sum(counts)
    for seed in range(20):
        train, validation, test = drawn(counts, seed)
        np.testing.assert_array_equal(train + validation + test, counts)
        assert validation.sum() == test.sum() == n // 10
        # One example of each class stays in the training data; of the rest, each has its share.
        share = (np.array(counts) - 1) / (n - len(counts)) * (n // 10)
        assert max(np.abs(validation - share).max(), np.abs(test - share).max()) < 1
        assert train.min() >= 1


def test_each_class_keeps_an_example_for_training():
    with pytest.raises(
        ValueError, match=r"at least 5 examples, as .* each of its 3 classes keeps one for train"
    ):
        drawn([2, 1, 1])


def test_examples_without_labels_are_held_out_as_with_them():
    x, y = numbered(50)
    found = assemble_inputs("numbers", Source((x, y)), seed=3)
    assert numbers_in(found.test) == numbers_in(assemble("numbers", Source((x, y)), seed=3).test)
    for labels in (None, y.astype(str), y[:-1]):
        assert len(assemble_inputs("numbers", Source((x, labels))).test) == 5


def test_the_splits_of_the_bundled_data_are_drawn_without_regard_to_the_class():
    # Computed by NumPy alone, as `hold_out` was from the first version on.
    sequence = np.random.SeedSequence(0, spawn_key=(1, 0))
    order = np.random.default_rng(sequence).permutation(9000)
    splits = datasets.load("mnist_mini")
    np.testing.assert_array_equal(splits.validation.rows, np.sort(order[:900]))
    np.testing.assert_array_equal(splits.train.rows, np.sort(order[900:]))


def test_too_few_examples_to_hold_out():
    with pytest.raises(
        ValueError, match=r"at least 3 examples, as validation and test are drawn from it.*: 2\."
    ):
        assemble("few", Source(numbered(2)))


def test_one_class_only():
    x, y = numbered(50)
    with pytest.raises(
        ValueError,
        match=r"`y_train` of one must be labels of at least two classes"
        r"\. Received: 50 labels, all 1\.",
    ):
        assemble("one", Source((x, np.ones_like(y))))


def test_one_example():
    with pytest.raises(ValueError, match=r"at least two classes\. Received: 1 label, all 0\."):
        assemble("one", Source(numbered(1), class_names=["a", "b"]))


def test_gray_images_get_a_channel_axis_and_other_arrays_keep_their_shape():
    y = np.arange(30) % 2
    gray = np.arange(30 * 4 * 5, dtype=np.uint8).reshape(30, 4, 5)
    splits = assemble("gray", Source((gray, y), validation=(gray, y), test=(gray, y)))
    assert splits.train.x.dtype == np.uint8
    np.testing.assert_array_equal(splits.train.x, gray.reshape(30, 4, 5, 1))

    pixels = gray.astype(np.float32)
    splits = assemble("gray", Source((pixels, y), validation=(pixels, y), test=(pixels, y)))
    np.testing.assert_array_equal(splits.train.x, pixels.reshape(30, 4, 5, 1))

    for x in (pixels - 99, gray.reshape(30, 20), gray.reshape(30, 2, 2, 5)):
        splits = assemble("other", Source((x, y), validation=(x, y), test=(x, y)))
        assert splits.train.x.shape == x.shape
        assert splits.train.x.dtype == x.dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_become_int64_of_shape_n(dtype, shape):
    x, y = numbered(30)
    splits = assemble("numbers", Source((x, y.astype(dtype).reshape(shape))))

    for part in (splits.train, splits.validation, splits.test):
        assert part.y.dtype == np.int64
        np.testing.assert_array_equal(part.y, np.array(numbers_in(part)) % 3)


def test_class_names_count_the_classes():
    assert assemble("numbers", Source(numbered(30))).class_names == ("0", "1", "2")

    named = assemble("numbers", Source(numbered(30), class_names=["a", "b", "c", "never seen"]))
    assert named.class_names == ("a", "b", "c", "never seen")


X, Y = numbered(30)
BAD_LABELS = [
    (Y - 1, {}, "integers in [0, 2)"),
    (Y - 1, {}, "Remove or relabel the "),
    (Y - 1, {"class_names": ["a", "b"]}, "Remove or relabel the "),
    (Y + 5, {"class_names": ["a", "b"]}, "integers in [0, 2), one of the `class_names`"),
    (Y, {"class_names": []}, "integers in [0, 0)"),
    (Y + MOST_UNNAMED_CLASSES, {}, f"integers in [0, {MOST_UNNAMED_CLASSES})"),
    (np.uint64(2**63) + Y.astype(np.uint64), {}, "integers in [0, "),
    (Y.astype(np.float32), {}, "integers. Received: dtype float32. Pass y.astype(int) if"),
    (Y.astype(str), {}, "an array of integers. Received: dtype <U"),
    (Y.astype(str), {}, "Pass names, y = np.unique(y, return_inverse=True)"),
    (Y > 0, {}, "an array of integers. Received: dtype bool. Pass y.astype(int)."),
    (np.eye(3, dtype=np.int64)[Y], {}, "Pass y.argmax(axis=1) of one-hot labels"),
    (Y[:-1], {}, "as long as `x_train`, 30 examples. Received: 29 labels"),
    (np.int64(3), {}, "of shape (n,) or (n, 1). Received: shape ()"),
]


@pytest.mark.parametrize(("y", "more", "message"), BAD_LABELS)
def test_bad_labels(y, more, message):
    with pytest.raises(ValueError, match=r"`y_train` of bad must be .*" + re.escape(message)):
        assemble("bad", Source((X, y), **more))


def test_two_classes_of_one_name():
    with pytest.raises(ValueError, match=r"different names\. Received: a more than once"):
        assemble("bad", Source((X, Y), class_names=["a", "b", "a"]))


def test_a_test_label_that_training_never_saw():
    with pytest.raises(ValueError, match=r"`y_test` of bad must be integers in \[0, 3\).*0 to 3"):
        assemble("bad", Source((X, Y), test=numbered(4, classes=4)))


BAD_EXAMPLES = [
    (
        np.where(np.arange(30)[:, None] == 4, np.nan, X),
        "NaN or infinity in 1 of 30 examples, the f",
    ),
    (np.where(np.arange(30)[:, None] > 27, np.inf, X), "in 2 of 30 examples, the first at 28"),
    (X[:, 0], "Received: shape (30,)"),
    (X[:0], "Received: shape (0, 1)"),
    (X[:, :0], "Received: shape (30, 0)"),
    (X.astype(str), "an array of numbers. Received: dtype <U"),
    (X.astype(complex), "an array of numbers. Received: dtype complex128"),
]


@pytest.mark.parametrize(("x", "message"), BAD_EXAMPLES)
def test_bad_examples(x, message):
    with pytest.raises(ValueError, match=r"`x_train` of bad must be .*" + re.escape(message)):
        assemble("bad", Source((x, Y)))


@pytest.mark.parametrize("x", [np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float64)])
def test_splits_of_different_shape_or_dtype(x):
    message = r"`x_validation` of bad must be float32 of shape \(n, 1\), as `x_train` is"
    with pytest.raises(ValueError, match=message):
        assemble("bad", Source((X, Y), validation=(x, Y[:4])))
