import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import probes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32) + (X[:, 0] > 1)
OTHER = (X[:, 1] > 0).astype(np.int64)
SIZES = (160, 40, 40)


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((5,)), keras.layers.Identity(name="same")])


def dataset(*parts, shuffled=False):
    found = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])
    return (found.shuffle(240) if shuffled else found).batch(50)


def augmented(data):
    def add(x):
        return tf.numpy_function(lambda x: x + np.float32(RNG.random()), [x], tf.float32)

    return data.map(lambda x: tf.ensure_shape(add(x), (None, 5)))


def extract(model, data, folder, **options):
    return probes.extract(model, data, folder, taps=["same"], verbose=0, **options)


def classes_of(x):
    return (x[:, 0] > 0).astype(int) + (x[:, 0] > 1)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (Y, classes_of),
        (Y[:, np.newaxis], classes_of),
        (Y.astype(np.uint8), classes_of),
        (Y > 0, lambda x: x[:, 0] > 0),
        ({"class": Y, "other": OTHER}, {"class": classes_of, "other": lambda x: x[:, 1] > 0}),
        ({"class": Y, "score": X[:, 0]}, {"class": classes_of}),
    ],
    ids=["integers", "a column", "uint8", "bool", "two factors", "one of two"],
)
def test_labels_stay_beside_their_features(model, tmp_path, labels, expected, shuffled):
    store = extract(model, dataset(X, labels, shuffled=shuffled), tmp_path / "store")
    assert store.shuffled == shuffled
    assert [tap.name for tap in store.taps] == ["same"]
    rows = store.read("same")
    assert (rows == X).all() != shuffled
    named = store.labels if isinstance(expected, dict) else {"": store.labels}
    wanted = expected if isinstance(expected, dict) else {"": expected}
    assert named.keys() == wanted.keys()
    for name, rule in wanted.items():
        assert named[name].dtype == np.int64
        np.testing.assert_array_equal(named[name], rule(rows))
    # A linear function of the features: a probe finds it whatever the order.
    report = probes.fit_probes(store, None, SIZES, verbose=0)
    assert max(probe.metrics["test"].error for probe in report.probes) < 0.12


@pytest.mark.parametrize(
    "data",
    [
        dataset(X, shuffled=True),
        dataset(X, X[:, 0], shuffled=True),
        dataset(X, keras.utils.to_categorical(Y), shuffled=True),
        dataset(X, {"score": X[:, 0]}, shuffled=True),
        augmented(dataset(X)),
        tf.data.Dataset.from_tensor_slices(X).batch(80).shuffle(3),
    ],
    ids=["no labels", "floats", "one-hot", "a dict of floats", "augmented", "three batches"],
)
def test_a_data_set_whose_order_no_one_knows_is_refused(model, tmp_path, data):
    with pytest.raises(ValueError, match=r"`x` must be in the same order in each pass, or pairs"):
        extract(model, data, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_other_labels_do_not_belong_to_a_shuffled_data_set(model, tmp_path):
    store = extract(model, dataset(X, Y, shuffled=True), tmp_path / "store")
    for labels in (Y, {"other": OTHER}):
        with pytest.raises(ValueError, match=r"`labels` must be None or `store.labels`"):
            probes.fit_probes(store, labels, SIZES, verbose=0)
    probes.fit_probes(store, store.labels, SIZES, verbose=0)


def test_a_shuffled_pass_cannot_be_continued(model, tmp_path):
    data = dataset(X, Y, shuffled=True)
    extract(model, data, tmp_path / "store")
    with pytest.raises(ValueError, match="features of another pass over a shuffled data set"):
        extract(model, data, tmp_path / "store")
    assert extract(model, data, tmp_path / "store", overwrite=True).examples == 240
    # In a fixed order, repeating it only verifies checksums.
    for _ in range(2):
        again = extract(model, dataset(X, Y), tmp_path / "fixed")
    np.testing.assert_array_equal(again.labels, Y)


def test_without_labels_there_are_none(model, tmp_path):
    for name, data in (("arrays", X), ("inputs", dataset(X)), ("floats", dataset(X, X[:, 0]))):
        store = extract(model, data, tmp_path / name)
        assert store.labels is None
        assert not store.shuffled
        with pytest.raises(ValueError, match="`labels` must be given for a store that keeps none"):
            probes.fit_probes(store, None, SIZES, verbose=0)
        report = probes.fit_probes(store, Y, SIZES, verbose=0)
        assert report.probes[0].metrics["test"].error < 0.12


def test_labels_come_with_their_weights_left_out(model, tmp_path):
    store = extract(model, dataset(X, Y, np.ones(240)), tmp_path / "store")
    np.testing.assert_array_equal(store.labels, Y)
