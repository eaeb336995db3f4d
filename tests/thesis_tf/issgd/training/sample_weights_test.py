"""Keras' loss of drawn examples against the losses of single examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from thesis_tf import issgd
from thesis_tf._keras.objective import Objective
from thesis_tf.issgd.training.examples import Examples
from thesis_tf.issgd.training.sample_weights import SampleWeights

N, BATCH = 12, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
SERIES = RNG.normal(size=(N, BATCH, 3)).astype("float32")  # as many steps as drawn examples
IMAGES = RNG.normal(size=(N, BATCH, 4, 1)).astype("float32")
TOKENS = np.where(np.arange(6) < RNG.integers(1, 7, (N, 1)), RNG.integers(1, 9, (N, 6)), 0)
CLASSES = RNG.integers(0, 4, N)
OF_EXAMPLES = RNG.uniform(0, 2, N).astype("float32")


def cross_entropy(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def stack(shape, *layers_):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *layers_])


def two_outputs(form):
    keras.utils.set_random_seed(0)
    i = keras.Input((3,))
    outputs = {"b": layers.Dense(2, name="b")(i), "a": layers.Dense(4, name="a")(i)}
    return keras.Model(i, outputs if form is dict else list(outputs.values()))


def masked():
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), dtype="int32")
    hidden = layers.Embedding(9, 4, mask_zero=True)(i)
    return keras.Model(i, layers.Dense(3)(layers.LSTM(3, return_sequences=True)(hidden)))


# name: (model, x, y, loss, weights of the examples)
FORMS = {
    "classes": (stack((3,), layers.Dense(4)), X, CLASSES, cross_entropy(), None),
    "weighted": (stack((3,), layers.Dense(4)), X, CLASSES, cross_entropy(), OF_EXAMPLES),
    "summed": (stack((3,), layers.Dense(4)), X, CLASSES, cross_entropy(reduction="sum"), None),
    "softmax": (stack((3,), layers.Dense(4, "softmax")), X, CLASSES,
                "sparse_categorical_crossentropy", None),
    "one-hot": (stack((3,), layers.Dense(4, "softmax")), X, np.eye(4)[CLASSES],
                "categorical_crossentropy", OF_EXAMPLES),
    "numbers": (stack((3,), layers.Dense(1)), X, X[:, 0], "mse", None),
    "series of classes": (stack((BATCH, 3), layers.Dense(4)), SERIES,
                          RNG.integers(0, 4, (N, BATCH)), cross_entropy(), OF_EXAMPLES),
    "series of numbers": (stack((BATCH, 3), layers.Dense(2)), SERIES, SERIES[..., :2], "mse", None),
    "images": (stack((BATCH, 4, 1), layers.Conv2D(1, 3, padding="same")), IMAGES, IMAGES, "mse",
               None),
    "segmentation": (stack((BATCH, 4, 1), layers.Conv2D(3, 3, padding="same")), IMAGES,
                     RNG.integers(0, 3, (N, BATCH, 4)), cross_entropy(), None),
    "ignored": (stack((3,), layers.Dense(4)), X, np.where(CLASSES < 2, -1, CLASSES),
                cross_entropy(ignore_class=-1), None),
    "masked": (masked(), TOKENS, RNG.integers(0, 3, (N, 6)), cross_entropy(), OF_EXAMPLES),
    "a dict": (two_outputs(dict), X, {"a": CLASSES, "b": X[:, :2]},
               {"a": cross_entropy(), "b": "mse"}, OF_EXAMPLES),
    "a list": (two_outputs(list), X, [X[:, :2], CLASSES], ["mse", cross_entropy()], None),
}  # fmt: skip


def of_single_examples(model, x, y, weight):
    """Returns Keras' loss of each example alone, divided by entries as those of all examples."""
    losses, entries = [], []
    for i in range(N):
        one_x, one_y = keras.tree.map_structure(lambda a: a[i : i + 1], (x, y))  # noqa: B023
        outputs = model(one_x)
        losses.append(float(model.compute_loss(one_x, one_y, outputs)))
        mask = getattr(outputs, "_keras_mask", None)
        count = 1.0 if mask is None else float(np.sum(mask))
        if getattr(model.loss, "ignore_class", None) is not None:
            count = float(one_y[0] >= 0)
        entries.append(count)
    losses = np.array(losses) * entries / np.mean(entries)
    return losses if weight is None else losses * weight


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_of_a_batch_is_the_mean_of_its_weighted_examples(form):
    model, x, y, loss, weight = FORMS[form]
    model.compile("sgd", loss, loss_weights=[0.5, 2.0] if form == "a list" else None)
    examples = Examples(x, y, sample_weight=weight)
    objective = Objective(model, None)
    weights = SampleWeights(examples)
    weights.fit_to(objective, examples, batch_size=4)
    weights.check(objective, examples, batch_size=BATCH)
    expected = of_single_examples(model, x, y, weight)
    rows = np.array([3, 0, 3, 11, 7])
    scales = RNG.uniform(0.2, 3, BATCH)
    x, y = keras.tree.map_structure(lambda a: tf.constant(a[rows]), (x, y))
    found = model.compute_loss(x, y, model(x), weights(rows, scales))
    total = np.sum(scales * expected[rows]) / (1 if form == "summed" else BATCH)
    assert float(found) == pytest.approx(total, rel=1e-5)
    spec = weights.spec(batch_size=BATCH)
    keras.tree.map_structure(
        lambda s, w: np.testing.assert_equal(tuple(s.shape), w.shape), spec, weights(rows, scales)
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["series of classes", "images", "masked", "a dict", "softmax"])
def test_fit_takes_the_step_of_the_weighted_examples(form):
    model, x, y, loss, weight = FORMS[form]
    model.compile(keras.optimizers.SGD(1.0), loss)
    sampling = issgd.ImportanceSampling(x, y, sample_weight=weight, batch_size=BATCH, smoothing=0.1)
    before = [v.numpy() for v in model.trainable_variables]
    data = sampling.dataset.take(1)
    model.fit(data, shuffle=False, verbose=0, callbacks=[sampling])
    after = [v.numpy() for v in model.trainable_variables]
    rows, scales = sampling.tracker.proposal.sample(BATCH, step=0)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    sums = [np.zeros_like(v) for v in before]
    entries = np.sum(TOKENS != 0, 1) / np.mean(np.sum(TOKENS != 0, 1)) if form == "masked" else 1
    factors = np.broadcast_to((1 if weight is None else weight) * entries, (N,))
    for row, scale in zip(rows, scales, strict=True):
        one_x, one_y = keras.tree.map_structure(lambda a: tf.constant(a[row : row + 1]), (x, y))  # noqa: B023
        with tf.GradientTape() as tape:
            value = model.compute_loss(one_x, one_y, model(one_x))
        found = tape.gradient(value, [v.value for v in model.trainable_variables])
        for total, gradient in zip(sums, found, strict=True):
            total += scale * factors[row] / BATCH * tf.convert_to_tensor(gradient).numpy()
    for start, end, step in zip(before, after, sums, strict=True):
        np.testing.assert_allclose(start - end, step, rtol=1e-4, atol=1e-5)


def test_masks_of_several_outputs_are_refused():
    keras.utils.set_random_seed(0)
    i = keras.Input((6,), dtype="int32")
    hidden = layers.LSTM(3, return_sequences=True)(layers.Embedding(9, 4, mask_zero=True)(i))
    model = keras.Model(i, [layers.Dense(3)(hidden), layers.Dense(2)(hidden)])
    model.compile("sgd", cross_entropy())
    y = RNG.integers(0, 2, (N, 6))
    sampling = issgd.ImportanceSampling(TOKENS, [y, y], batch_size=BATCH)
    with pytest.raises(ValueError, match="without masks or ignored classes if"):
        model.fit(sampling.dataset, shuffle=False, verbose=0, callbacks=[sampling])


def test_weights_that_miss_the_examples_are_refused():
    """A loss (n, h, w) of labels (n,), whose weights have fewer axes than Keras needs."""
    model = stack((BATCH, 3), layers.Dense(BATCH))

    def spread(y, outputs):
        return tf.square(outputs - tf.reshape(y, [-1, 1, 1]))

    model.compile("sgd", spread)
    sampling = issgd.ImportanceSampling(SERIES, X[:, 0], batch_size=BATCH)
    with pytest.raises(ValueError, match="sample weights don't weight the examples"):
        model.fit(sampling.dataset, shuffle=False, verbose=0, callbacks=[sampling])
