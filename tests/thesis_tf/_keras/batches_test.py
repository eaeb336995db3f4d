import numpy as np
import pytest
import tensorflow as tf

from thesis_tf._keras.batches import Stream


def numbers(n, first=0):
    return np.arange(first, first + n, dtype=np.float32).reshape(-1, 1)


def read(stream, *bounds):
    """Returns the examples of a stream, batch by batch; checks shapes and padding."""
    parts = []
    for batch, count in stream.batches(*bounds):
        assert batch.shape[0] == stream.batch_size
        assert 1 <= count <= stream.batch_size
        np.testing.assert_array_equal(
            batch[count:], np.repeat(batch[count - 1 : count], len(batch) - count, 0)
        )
        parts.append(batch[:count, 0].astype(int).tolist())
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_arrays_and_datasets_give_the_same_batches(n, start):
    x, start = numbers(n), min(start, n)
    expected = [list(range(i, min(i + 4, n))) for i in range(start, n, 4)]

    assert read(Stream(x, 4), start) == expected
    for batch in (1, 3, 4, 50):
        dataset = tf.data.Dataset.from_tensor_slices(x).batch(batch)
        assert read(Stream(dataset, 4), start) == expected


def test_a_part_of_arrays():
    assert read(Stream(numbers(20), 4), 3, 12) == [[3, 4, 5, 6], [7, 8, 9, 10], [11]]
    assert read(Stream(numbers(20), 4), 5, 5) == []


def test_number_of_examples():
    assert Stream(numbers(7), 4).examples == 7
    assert Stream(tf.data.Dataset.from_tensors(numbers(7)), 4).examples is None


def test_structures():
    x = {"a": numbers(5), "b": [numbers(5, 10), numbers(5, 20).astype(np.int32)]}
    for source in (
        x,
        tf.data.Dataset.from_tensor_slices({"a": x["a"], "b": tuple(x["b"])}).batch(2),
    ):
        stream = Stream(source, 4)
        (first, four), (last, one) = stream.batches()
        assert (four, one) == (4, 1)
        np.testing.assert_array_equal(first["b"][0][:, 0], [10, 11, 12, 13])
        np.testing.assert_array_equal(last["b"][1][:, 0], [24, 24, 24, 24])
        assert stream.spec["a"] == tf.TensorSpec((None, 1), tf.float32)
        assert stream.spec["b"][1] == tf.TensorSpec((None, 1), tf.int32)


def test_lists_of_arrays_and_tensors():
    assert read(Stream(tf.constant(numbers(3)), 2)) == [[0, 1], [2]]
    ((batch, count),) = Stream([numbers(2), numbers(2, 5)], 2).batches()
    assert count == 2
    np.testing.assert_array_equal(batch[1][:, 0], [5, 6])


def test_arrays_are_not_copied():
    x = numbers(6)
    (first, _), _ = Stream(x, 4).batches()

    assert np.shares_memory(first, x)


def test_fingerprints():
    x, dataset = numbers(6), tf.data.Dataset.from_tensor_slices
    assert Stream(x, 2).fingerprint() == Stream(x.copy(), 4).fingerprint()
    assert Stream(x, 2).fingerprint() != Stream(x + 1, 2).fingerprint()
    assert Stream(x, 2).fingerprint() != Stream(x[:5], 2).fingerprint()

    # The fingerprint of a data set is that of its first batches and their number.
    one = Stream(dataset(x).batch(2), 4).fingerprint()
    assert one == Stream(dataset(x).batch(3), 4).fingerprint()
    assert one != Stream(dataset(x + 1).batch(2), 4).fingerprint()
    many = np.arange(100.0)
    first = Stream(dataset(many).batch(5), 10).fingerprint()
    for row, seen in ((79, True), (80, False)):
        other = many.copy()
        other[row] += 1
        assert (Stream(dataset(other).batch(5), 10).fingerprint() != first) == seen
    assert Stream(dataset(np.arange(120.0)).batch(5), 10).fingerprint() != first
    words = np.array([["good"], ["bad"]], object)
    assert Stream(dataset(words).batch(2), 2).fingerprint() == (
        Stream(dataset(words.copy()).batch(2), 2).fingerprint()
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            {"a": numbers(3), "b": numbers(2)},
            r"The data must be arrays of one length\. Received: \[2, 3\]",
        ),
        (numbers(0), "The data must be at least one example"),
        ([1.0, 2.0], "The data must be arrays with a first axis of examples"),
        ([], "The data must be arrays with a first axis of examples"),
        (tf.data.Dataset.from_tensors(numbers(3)).repeat(), r"a finite data set.*Use take\(\)"),
    ],
)
def test_bad_data(x, message):
    with pytest.raises(ValueError, match=message):
        Stream(x, 4)


def test_an_empty_dataset():
    stream = Stream(tf.data.Dataset.from_tensor_slices(numbers(0)).batch(2), 4)

    assert list(stream.batches()) == []
    with pytest.raises(ValueError, match=r"at least one example.*an empty data set"):
        stream.fingerprint()


@pytest.mark.parametrize(("size", "kind"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_bad_batch_sizes(size, kind):
    with pytest.raises(kind, match="`batch_size` must be a positive integer"):
        Stream(numbers(3), size)


def augmented(x):
    rng = np.random.default_rng(0)
    # With a global seed, TensorFlow's random operations are the same in each pass.
    add = lambda v: tf.numpy_function(lambda v: v + rng.random(), [v], tf.float64)  # noqa: E731
    return tf.data.Dataset.from_tensor_slices(x).map(lambda v: tf.ensure_shape(add(v), ()))


def once(x):
    values = iter(x)
    spec = tf.TensorSpec((), tf.float64)
    return tf.data.Dataset.from_generator(lambda: values, output_signature=spec)


CHANGING = {
    "shuffled": lambda x: tf.data.Dataset.from_tensor_slices(x).shuffle(50).batch(5),
    "shuffled by seed": lambda x: tf.data.Dataset.from_tensor_slices(x).shuffle(50, 1).batch(5),
    "in a small buffer": lambda x: tf.data.Dataset.from_tensor_slices(x).shuffle(3).batch(5),
    "after a fixed batch": lambda x: (
        tf.data.Dataset.from_tensor_slices(x[:5])
        .concatenate(tf.data.Dataset.from_tensor_slices(x[5:]).shuffle(50))
        .batch(5)
    ),
    "augmented": lambda x: augmented(x).batch(5),
    "read only once": lambda x: once(x).batch(5),
}
FIXED = {
    "arrays": lambda x: x,
    "in order": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(5),
    "shuffled once": lambda x: (
        tf.data.Dataset.from_tensor_slices(x).shuffle(50, reshuffle_each_iteration=False).batch(5)
    ),
    "cached augmentation": lambda x: augmented(x).cache().batch(5),
    "strings": lambda x: tf.data.Dataset.from_tensor_slices(x.astype(str)).batch(5),
    "with NaN": lambda x: tf.data.Dataset.from_tensor_slices(x * np.nan).batch(5),
    "one example": lambda x: tf.data.Dataset.from_tensor_slices(x[:1]).batch(5),
}


@pytest.mark.parametrize("name", [*CHANGING, *FIXED])
def test_whether_a_data_set_changes_from_pass_to_pass(name):
    x = np.arange(40.0)
    stream = Stream((CHANGING | FIXED)[name](x), 5)
    if name == "cached augmentation":
        list(stream.batches())  # fills the cache
    found = stream.changing_batch()
    assert (found is not None) == (name in CHANGING)
    if name != "read only once":
        assert stream.changing_batch(looks=4, batches=3) == found
    if name == "after a fixed batch":
        assert found == 1
        assert stream.changing_batch(batches=1) is None
