"""Tools for models x layouts, dtypes, values and batches of their data, labels and vectors.

Each cell is right, by a relation to the result for plain arrays, or refused by name.
"""

import keras
import layouts
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import (
    autoencoders,
    corruption,
    gradient_norms,
    gsn,
    hessian,
    issgd,
    mcmc,
    probes,
)
from thesis_tf.errors import ArgumentError
from thesis_tf.issgd.training.examples import Examples

RNG = np.random.default_rng(0)
N, CLASSES = 11, 3
X = RNG.normal(size=(N, 4)).astype(np.float32)
Y = np.concatenate([np.arange(CLASSES), RNG.integers(0, CLASSES, N - CLASSES)])
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
POINTS = RNG.normal(size=(9, 3))


LAYOUTS = {**layouts.LAYOUTS, "a tensor": tf.constant}
LABELS = {
    "uint8": lambda y: y.astype(np.uint8),
    "int8": lambda y: y.astype(np.int8),
    "uint64": lambda y: y.astype(np.uint64),
    "big-endian": lambda y: y.astype(">i8"),
    "strided": layouts.strided,
    "read-only": layouts.read_only,
    "a tensor": tf.constant,
    "float32": lambda y: y.astype(np.float32),
    "float16": lambda y: y.astype(np.float16),
    "a column": lambda y: y[:, np.newaxis],
}
NO_LABELS = {
    "from 1": Y + 1,
    "negative": Y - 1,
    "beyond 2^32": Y + 2**32,
    "beyond 2^53": Y + 2**53,
    "NaN": np.where(Y == 0, np.nan, Y),
    "strings": Y.astype(str),
    "objects": Y.astype(object),
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(CLASSES)]
    model = keras.Sequential([keras.layers.Input((4,)), *layers])
    model.compile("sgd", LOSS)
    return model


@pytest.fixture(scope="module")
def norms(model):
    return gradient_norms.per_example_gradient_norms(model, LOSS)


@pytest.fixture(scope="module")
def by_tapes(model):
    """Losses and squared norms, from a tape for each example."""
    losses, squares = [], []
    for x, y in zip(X, Y, strict=True):
        with tf.GradientTape() as tape:
            loss = LOSS(np.array([y]), model(x[np.newaxis]))
        gradients = tape.gradient(loss, model.trainable_variables)
        losses.append(float(loss))
        squares.append(float(sum(tf.reduce_sum(g**2) for g in gradients)))
    return np.array(losses), np.array(squares)


@pytest.fixture(scope="module")
def operator(model):
    return hessian.HessianOperator(model, LOSS, (X, Y))


@pytest.fixture(scope="module")
def vector(operator):
    return RNG.normal(size=operator.shape[0]).astype(np.float32)


def assert_norms(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_norms_of_inputs(norms, by_tapes, layout):
    assert_norms(norms(LAYOUTS[layout](X), Y), by_tapes)
    assert_norms(norms(LAYOUTS[layout](X.astype(np.float64)), Y), by_tapes)


@pytest.mark.parametrize("form", LABELS)
def test_norms_of_labels(norms, by_tapes, form):
    assert_norms(norms(X, LABELS[form](Y)), by_tapes)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_norms_of_batches(norms, by_tapes, size):
    batches = [slice(i, i + size) for i in range(0, N, size)]
    parts = [norms(X[rows], Y[rows]) for rows in batches]
    assert_norms([np.concatenate([p[i] for p in parts]) for i in (0, 1)], by_tapes)


@pytest.mark.parametrize("form", NO_LABELS)
def test_norms_of_no_labels(norms, form):
    # TensorFlow's error says which label is out of range; on GPUs such losses are NaN.
    try:
        losses, squares = norms(X, NO_LABELS[form])
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        return
    assert np.isnan(losses).any()
    assert np.isnan(squares).any()


def test_norms_of_an_example_that_is_not_finite(norms, by_tapes):
    x = X.copy()
    x[2, 1] = np.nan
    for found, expected in zip(norms(x, Y), by_tapes, strict=True):
        assert np.isnan(found[2])
        others = np.arange(N) != 2
        np.testing.assert_allclose(np.asarray(found)[others], expected[others], rtol=1e-5)


@pytest.mark.parametrize("form", ["uint8", "float32"])
def test_products_with_labels(model, operator, vector, form):
    found = hessian.HessianOperator(model, LOSS, (layouts.strided(X), LABELS[form](Y)), check=False)
    np.testing.assert_array_equal(found @ vector, operator @ vector)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_products_in_batches(model, operator, vector, size):
    found = hessian.HessianOperator(model, LOSS, (X, Y), batch_size=size, check=False) @ vector
    expected = operator @ vector
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_of_vectors(operator, vector, layout):
    found = np.asarray(operator @ LAYOUTS[layout](vector))
    np.testing.assert_array_equal(found, operator @ vector)
    columns = np.stack([vector, vector[::-1]], axis=1)
    found = np.asarray(operator @ LAYOUTS[layout](columns))
    np.testing.assert_array_equal(found, operator @ columns)


@pytest.mark.parametrize(
    "change", [np.round, lambda v: v + 0j, lambda v: v[:-1], lambda v: v[None]]
)
def test_no_vectors(operator, vector, change):
    wrong = change(vector)
    with pytest.raises(ArgumentError):
        operator @ (wrong.astype(int) if change is np.round else wrong)


# Powers of two leave directions as they are; in float32 these would vanish or overflow.
@pytest.mark.parametrize("scale", [2.0**-150, 2.0**-140, 2.0**-100, 2.0**100, 2.0**140])
def test_directions_of_any_scale(operator, vector, scale):
    direction = scale * vector.astype(np.float64)
    found, expected = (hessian.line_search(operator, v, [0.5]) for v in (direction, vector))
    assert found.loss == expected.loss
    assert found.curvature == expected.curvature
    options = {"largest": 1, "smallest": 1, "verbose": 0}
    found, expected = (
        hessian.extreme_eigenpairs(operator, v0=v, **options).values for v in (direction, vector)
    )
    np.testing.assert_array_equal(found, expected)


WRONG_LINES = {
    "direction": [lambda v: v + 0j, lambda v: v * np.nan, lambda v: v * 0, lambda v: v[:-1]],
    "alphas": [lambda v: np.ones((2, 1)), lambda v: np.ones(2) + 0j],
    "gradient": [lambda v: v[:, np.newaxis], lambda v: v[:-1], lambda v: v + 0j],
}


@pytest.mark.parametrize(
    ("name", "number"), [(n, i) for n, wrong in WRONG_LINES.items() for i in range(len(wrong))]
)
def test_no_lines(operator, vector, name, number):
    arguments = {"direction": vector, "alphas": [0.1], "gradient": vector}
    arguments[name] = WRONG_LINES[name][number](vector)
    with pytest.raises(ArgumentError, match=f"`{name}` must be"):
        hessian.line_search(operator, **arguments)


@pytest.mark.parametrize("change", [lambda v: v + 0j, lambda v: v * np.nan, lambda v: v[:-1]])
def test_no_first_vectors(operator, vector, change):
    with pytest.raises(ArgumentError, match="`v0` must be"):
        hessian.extreme_eigenpairs(operator, largest=1, smallest=1, v0=change(vector), verbose=0)


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    x = np.tile(X, (4, 1)) + np.arange(4).repeat(N)[:, np.newaxis].astype(np.float32) / 7
    return probes.extract(model, x, tmp_path_factory.mktemp("store"), taps="dense*", verbose=0)


@pytest.mark.parametrize("layout", [*LAYOUTS, "batches of 3", "a batch of 1", "tf.data"])
def test_features(model, tmp_path, layout):
    x, size = X, 32
    if layout in LAYOUTS:
        x = LAYOUTS[layout](X)
    elif layout == "tf.data":
        x = tf.data.Dataset.from_generator(
            lambda: iter(X), output_signature=tf.TensorSpec((4,), tf.float32)
        ).batch(3)
    else:
        size = int(layout.rpartition(" ")[2])
    store = probes.extract(model, x, tmp_path, batch_size=size, verbose=0)
    values = X
    for layer, tap in zip(model.layers, store.taps[1:], strict=True):
        values = layer(values)
        np.testing.assert_allclose(store.read(tap.name), values, rtol=1e-5, atol=1e-6)
    for rows in ([-1, 0], np.array([9, 1], np.uint8), np.arange(N) % 2 == 0, slice(8, 2, -3)):
        name = store.taps[0].name
        np.testing.assert_array_equal(store.read(name, rows), store.read(name)[rows])


TRAIN, TEST = np.arange(30), np.arange(30, 44)


def fitted(store, labels, splits=None, l2=0.1):
    splits = {"train": TRAIN, "test": TEST} if splits is None else splits
    report = probes.fit_probes(store, labels, splits, l2=l2, verbose=0)
    probe = report.probes[0]
    return [probe.solution.loss, probe.metrics["test"].error, report.chance["class"]]


STORED = np.tile(Y, 4)


@pytest.mark.parametrize(
    "form",
    ["uint8", "int8", "uint64", "big-endian", "strided", "read-only", "a tensor", "a column",
     "a list", "from 1", "with gaps"],
)  # fmt: skip
def test_probes_of_labels(store, form):
    forms = {
        **LABELS,
        "a list": np.ndarray.tolist,
        "from 1": lambda y: y + 1,
        "with gaps": lambda y: 7 * y,
    }
    np.testing.assert_allclose(fitted(store, forms[form](STORED)), fitted(store, STORED), rtol=1e-6)


@pytest.mark.parametrize(
    "labels",
    [STORED - 1, STORED + 2**53, STORED.astype(float), STORED.astype(str), STORED.astype(object),
     STORED * 0, np.eye(3)[STORED], STORED[:-1], STORED[np.newaxis], STORED + 0j],
)  # fmt: skip
def test_no_labels_of_probes(store, labels):
    with pytest.raises(ArgumentError, match="`labels` must be"):
        fitted(store, labels)


@pytest.mark.parametrize(
    "splits",
    [
        {"train": TRAIN.astype(np.uint8), "test": TEST.astype(">u2")},
        {"train": TRAIN.tolist(), "test": slice(-14, None)},
        {"train": np.arange(44) < 30, "test": np.arange(44) >= 30},
        {"train": slice(0, -14), "test": tf.constant(TEST)},
        {"train": slice(29, None, -1), "test": TEST[::-1]},
    ],
)
def test_rows_of_splits(store, splits):
    np.testing.assert_allclose(fitted(store, STORED, splits), fitted(store, STORED), rtol=1e-6)


@pytest.mark.parametrize(
    ("train", "match"),
    [
        ((np.arange(44) < 30).astype(int), "42 repeated ones. Pass booleans for a mask"),
        (np.array([*TRAIN, 3]), "1 repeated"),
        (np.arange(-5, 5), "indices in"),
        (TRAIN.astype(float), "a slice, indices or a mask"),
        (np.arange(20) < 9, "a mask"),
        ([], "at least one example"),
        (slice(50, 60), "within 44 examples"),
    ],
)
def test_no_rows_of_splits(store, train, match):
    with pytest.raises(ArgumentError, match=match):
        fitted(store, STORED, {"train": train})


def test_rows_that_wrap_around(model, tmp_path):
    """The difference of the unsigned 255 and 0 is 1, like that of neighbors."""
    x = np.tile(X, (24, 1))
    store = probes.extract(model, x, tmp_path, taps="dense*", verbose=0)
    rows = np.array([254, 255, 0, 1, 2, 3], np.uint8)
    labels, splits = np.tile(Y, 24), ({"train": r} for r in (rows, rows.astype(int)))
    found, expected = (
        probes.fit_probes(store, labels, s, l2=0.1, verbose=0).probes[0].solution for s in splits
    )
    assert found.loss == expected.loss


class Column:
    """As pandas keeps a column: rows are found by their labels, not by their places."""

    def __init__(self, values, labels):
        self._values, self._places = values, {label: i for i, label in enumerate(labels)}
        self.shape, self.dtype, self.iloc = values.shape, values.dtype, self

    def __len__(self):
        return len(self._values)

    def __getitem__(self, labels):
        return self._values[[self._places[label] for label in np.atleast_1d(labels)]]

    def to_numpy(self):
        return self._values


def test_examples_of_pandas():
    """After a shuffled split the labels of rows are still those of the whole table."""
    order = RNG.permutation(N)
    examples = Examples(X, Column(Y, order), sample_weight=Column(Y + 1.0, order))
    x, (y, weights) = examples.take(np.array([3, 1, 10]))
    np.testing.assert_array_equal(x, X[[3, 1, 10]])
    np.testing.assert_array_equal(y, Y[[3, 1, 10]])
    np.testing.assert_array_equal(weights, Y[[3, 1, 10]] + 1)
    assert examples.fingerprint() == Examples(X, Y, sample_weight=Y + 1.0).fingerprint()


@pytest.mark.parametrize("layout", [*LAYOUTS, "a list"])
def test_examples(layout):
    change = LAYOUTS.get(layout, np.ndarray.tolist)
    x, y = Examples(change(X), change(Y)).take(np.array([3, 1, 10]))
    np.testing.assert_allclose(x, X[[3, 1, 10]], rtol=1e-7)
    np.testing.assert_array_equal(y, Y[[3, 1, 10]])


ESTIMATOR = autoencoders.ScoreEstimator(lambda x: 0.7 * x, sigma=0.5)
DENSITY = autoencoders.KernelDensity(POINTS, 0.5)


def parzen(samples, test):
    options = {"sigmas": [0.1, 0.4, 0.6, 3.0], "verbose": 0}
    return gsn.parzen_log_likelihood(samples, test, POINTS + 0.3, **options).log_likelihoods


def conservative(outputs, test):
    found = gsn.conservative_log_likelihood(outputs, test, gsn.Normal(0.5), verbose=0)
    return found.log_likelihoods


def chains(x):
    kernel = mcmc.FunctionKernel(
        lambda s, seed: s + tf.random.stateless_normal(tf.shape(s), seed, dtype=s.dtype)
    )
    return mcmc.sample_chain(kernel, x, 3, verbose=0).samples


# {function: (call, whether its result for some points is that of all)}.
DENSITIES = {
    "KernelDensity": (lambda x: autoencoders.KernelDensity(x, 0.5).log_prob(POINTS), False),
    "KernelDensity.log_prob": (DENSITY.log_prob, True),
    "KernelDensity.score": (DENSITY.score, True),
    "ScoreEstimator.score": (ESTIMATOR.score, True),
    "ScoreEstimator.direction": (ESTIMATOR.direction, True),
    "ScoreEstimator.jacobian": (ESTIMATOR.jacobian, True),
    "ScoreEstimator.hessian_log_prob": (ESTIMATOR.hessian_log_prob, True),
    "ScoreEstimator.energy_difference": (
        lambda x: ESTIMATOR.energy_difference(x, np.ones((len(x), 3))), True
    ),
    "ScoreEstimator.denoising_score_matching": (
        lambda x: ESTIMATOR.denoising_score_matching(np.ones((len(x), 3)), x), True
    ),
    "parzen_log_likelihood, samples": (lambda x: parzen(x, POINTS - 0.1), False),
    "parzen_log_likelihood, test": (lambda x: parzen(POINTS - 0.1, x), True),
    "conservative_log_likelihood, outputs": (lambda x: conservative(x, POINTS), False),
    "conservative_log_likelihood, test": (lambda x: conservative(POINTS, x), True),
    "sample_chain": (chains, False),
    "far_points": (lambda x: autoencoders.far_points(x, 5), False),
    "Gaussian.sample": (lambda x: corruption.Gaussian(0.5).sample(x, (0, 1)), False),
    "Gaussian.log_prob": (lambda x: corruption.Gaussian(0.5).log_prob(x, x), True),
    "SaltAndPepper.log_prob": (lambda x: corruption.SaltAndPepper(0.5).log_prob(x, x), True),
    "Masking.sample": (lambda x: corruption.Masking(0.5).sample(x, (0, 1)), False),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSITIES)
def test_layouts_of_points(name):
    function, _ = DENSITIES[name]
    expected = function(POINTS)
    for layout, change in LAYOUTS.items():
        np.testing.assert_array_equal(function(change(POINTS)), expected, err_msg=layout)


@pytest.mark.parametrize("name", [name for name, (_, each) in DENSITIES.items() if each])
def test_each_point_alone(name):
    function, _ = DENSITIES[name]
    parts = [np.asarray(function(POINTS[rows])) for rows in (slice(0, 1), slice(1, None))]
    np.testing.assert_allclose(np.concatenate(parts), function(POINTS), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [lambda x: (9 * x).astype(int), lambda x: x > 0, lambda x: x + 0j, lambda x: x.astype(str)],
    ids=["integers", "booleans", "complex", "strings"],
)
@pytest.mark.parametrize("name", [name for name in DENSITIES if name != "sample_chain"])
def test_no_points(name, change):
    with pytest.raises(ArgumentError, match="of a floating dtype"):
        DENSITIES[name][0](change(POINTS))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name", [n for n in DENSITIES if not n.startswith(("Gaussian", "Salt", "Masking"))]
)
def test_points_that_are_not_finite(name, value):
    points = POINTS.copy()
    points[2, 1] = value
    with pytest.raises(ArgumentError, match=r"NaN|infinity|1 of 9"):
        DENSITIES[name][0](points)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_densities_in_other_units(scale):
    """Log densities of 3 values change by -3 log scale, scores by 1 / scale."""
    other = autoencoders.KernelDensity(scale * POINTS, scale * 0.5)
    shift = 3 * np.log(scale)
    expected = DENSITY.log_prob(POINTS) - shift
    np.testing.assert_allclose(other.log_prob(scale * POINTS), expected, rtol=1e-12)
    found = scale * other.score(scale * POINTS)
    np.testing.assert_allclose(found, DENSITY.score(POINTS), rtol=1e-9, atol=1e-9)
    found = gsn.parzen_log_likelihood(
        scale * POINTS, scale * (POINTS - 0.1), scale * (POINTS + 0.3),
        sigmas=scale * np.array([0.1, 0.4, 0.6, 3.0]), verbose=0,
    ).log_likelihoods  # fmt: skip
    np.testing.assert_allclose(found, parzen(POINTS, POINTS - 0.1) - shift, rtol=1e-9)


def test_values_of_clamps():
    mask = np.array([True, False])
    clamp = mcmc.MaskClamp(mask, np.array([0.7, 0.2]))
    with pytest.raises(ArgumentError, match="which would be rounded"):
        clamp(tf.constant([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(clamp(tf.constant([[1.0, 2.0]], tf.float64)), [[0.7, 2.0]])
    whole = mcmc.MaskClamp(mask, np.array([7, 2]))
    for dtype in (tf.int32, tf.float32):
        np.testing.assert_array_equal(whole(tf.constant([[1, 2]], dtype)), [[7, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["uint8", "big-endian"])
def test_trained_on_labels(model, form):
    def trained(x, y):
        one = keras.models.clone_model(model)
        one.set_weights(model.get_weights())
        one.compile("sgd", LOSS)
        issgd.Trainer(one, {"train": (x, y)}, batch_size=3, sync_every=2).train(2, verbose=0)
        return one.get_weights()

    for a, b in zip(trained(layouts.strided(X), LABELS[form](Y)), trained(X, Y), strict=True):
        np.testing.assert_array_equal(a, b)
