"""Examples that can't be: no weight changes, and an error or a loss of NaN says so."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gsn
from thesis_tf.autoencoders import CriterionModel, DenoisingLoss, fit_full_batch

X = np.random.default_rng(0).uniform(size=(12, 4)).astype(np.float32)


def dense(activation=None):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation)])


MODELS = {
    "GSN": lambda: gsn.GSN([3], walkback=1),
    "auto-encoder": lambda: gsn.WalkbackAutoEncoder(dense(), walkback=1),
    "dependency network": lambda: gsn.DependencyNetwork(dense()),
    "squared error": lambda: CriterionModel(dense(), DenoisingLoss(0.1)),
    "cross-entropy": lambda: CriterionModel(
        dense(), DenoisingLoss(0.1, distance="bernoulli_from_logits")
    ),
}


def bad(value):
    x = X.copy()
    x[9, 2] = value  # in the third batch
    return x


class Sequence(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return (self.x[4 * number : 4 * number + 4],)


def dataset(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(4)


FIT = {"verbose": 0, "shuffle": False}
WAYS = {
    "array": lambda m, x: m.fit(x, batch_size=4, **FIT),
    "tensor": lambda m, x: m.fit(tf.constant(x), batch_size=4, **FIT),
    "dataset": lambda m, x: m.fit(dataset(x), **FIT),
    "PyDataset": lambda m, x: m.fit(Sequence(x), **FIT),
    "generator": lambda m, x: m.fit(((b,) for b in np.split(x, 3)), **FIT),
    "validation": lambda m, x: m.fit(X, validation_data=(x, x), **FIT),
    "validation dataset": lambda m, x: m.fit(X, validation_data=dataset(x), **FIT),
    "validation_split": lambda m, x: m.fit(x, validation_split=0.3, **FIT),
    "evaluate": lambda m, x: m.evaluate(x, verbose=0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("GSN", 200.0), ("auto-encoder", np.nan), ("squared error", np.nan)]
)  # fmt: skip
def test_a_bad_value_in_the_third_batch(name, value, way):
    refused(name, way, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GSN", np.nan), ("GSN", -0.1), ("dependency network", 3.0), ("cross-entropy", 2.0),
        ("squared error", np.inf), ("cross-entropy", np.nan),
    ],
)  # fmt: skip
def test_a_bad_value_of_each_kind(name, value):
    refused(name, "PyDataset", value)


def refused(name, way, value):
    model = MODELS[name]()
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=r"(Data|Examples).* must be .*(finite|in \[0, 1\])"):
        WAYS[way](model, bad(value))
    for variable in model.trainable_variables:
        assert np.isfinite(variable).all()


def test_without_assertions_the_loss_is_nan_and_weights_are_not():
    model = MODELS["squared error"]()
    model.compile(keras.optimizers.SGD(0.1), jit_compile=True)  # XLA leaves out assertions
    assert np.isnan(model.fit(bad(np.nan)[8:], batch_size=1, **FIT).history["loss"][0])
    assert all(np.isfinite(v).all() for v in model.trainable_variables)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
@pytest.mark.parametrize("name", ["GSN", "dependency network", "squared error"])
def test_other_dtypes_are_refused(name, dtype):
    model = MODELS[name]()
    model.compile("sgd")
    with pytest.raises(TypeError, match="must be of a floating dtype"):
        model.fit((X > 0.5).astype(dtype), **FIT)


def test_another_shape_than_the_network_was_built_for():
    model = gsn.GSN([3])
    model.build((None, 4))
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"Examples must be of shape \(4,\).*shape \(2, 2\)"):
        model.fit(X.reshape(-1, 2, 2), **FIT)


def test_full_batch():
    criterion = DenoisingLoss(0.1, distance="bernoulli_from_logits")
    with pytest.raises(ValueError, match=r"cross-entropy must be in \[0, 1\]"):
        fit_full_batch(dense(), criterion, 255 * X)
    with pytest.raises(ValueError, match="`x` must be finite"):
        fit_full_batch(dense(), criterion, bad(np.nan))


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_sample_weights(shape):
    weights = np.linspace(0, 3, 12, dtype=np.float32)
    model = CriterionModel(dense(), DenoisingLoss(None))
    model.compile(keras.optimizers.SGD(0.0))
    expected = weights @ np.square(X - model.model(X)).sum(axis=1) / 12
    found = model.fit(X, X, sample_weight=weights.reshape(shape), batch_size=12, **FIT)
    assert found.history["loss"][0] == pytest.approx(float(expected), rel=1e-5)


def test_losses_and_weights_of_other_shapes():
    shapes = {
        "scalar": lambda m, x, t=None, **_: tf.reduce_mean(tf.square(m(x) - x)),
        "of values": lambda m, x, t=None, **_: tf.square(m(x) - x),
    }
    match = r"losses of examples must be of shape \(n,\)"
    for criterion in shapes.values():
        model = CriterionModel(dense(), criterion)
        model.compile("sgd")
        with pytest.raises(ValueError, match=match):
            model.fit(X, **FIT)
        with pytest.raises(ValueError, match=match):
            fit_full_batch(dense(), criterion, X)
    model = CriterionModel(dense(), DenoisingLoss(0.1))
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"`sample_weight` must be of shape \(n,\)"):
        model.fit(X, X, sample_weight=np.ones((12, 4)), **FIT)
