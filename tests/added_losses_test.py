"""Regularizers and `add_loss` count in models with a built-in loss as in Keras' own `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gsn
from thesis_tf.autoencoders import (
    ContractiveLoss,
    CriterionModel,
    DenoisingLoss,
    ReconstructionContractiveLoss,
    fit_full_batch,
)

X = np.random.default_rng(0).uniform(size=(24, 4)).astype(np.float32)
L2 = keras.regularizers.L2(0.3)


class Penalty(keras.layers.Layer):
    """Adds a loss."""

    def call(self, x):
        self.add_loss(0.7 * tf.reduce_mean(tf.square(x)))
        return x


KINDS = {
    "weights": ({"kernel_regularizer": L2, "bias_regularizer": "l1"}, {}, []),
    "activity": ({"activity_regularizer": L2}, {"activity_regularizer": "l1"}, []),
    "add_loss": ({}, {}, [Penalty()]),
    "all": ({"kernel_regularizer": L2, "activity_regularizer": L2}, {}, [Penalty()]),
    "none": ({}, {}, []),
}


def network(kind, frozen=False):
    hidden, last, more = KINDS[kind]
    glorot = {"kernel_initializer": keras.initializers.GlorotUniform(seed=1)}
    first = keras.layers.Dense(6, "tanh", name="encoder", **hidden, **glorot)
    first.trainable = not frozen
    more = [type(layer)() for layer in more]
    return keras.Sequential(
        [keras.Input((4,)), first, *more, keras.layers.Dense(4, **last, **glorot)]
    )


def squared_error(y, outputs):
    return tf.reduce_sum(tf.square(y - outputs), axis=1)


def kerass(kind, **options):
    """Returns Keras' own model, compiled with the criterion of no noise."""
    model = network(kind, **options)
    model.compile(keras.optimizers.SGD(0.1), squared_error)
    return model


def ours(kind, criterion=None, **options):
    model = network(kind, **options)
    trainer = CriterionModel(model, criterion or DenoisingLoss(None))
    trainer.compile(keras.optimizers.SGD(0.1))
    return trainer, model


FIT = {"shuffle": False, "verbose": 0, "batch_size": 8}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_as_in_keras(kind, frozen):
    (trainer, model), other = ours(kind, frozen=frozen), kerass(kind, frozen=frozen)
    expected = other.evaluate(X, X, verbose=0, batch_size=8)
    assert trainer.evaluate(X, X, verbose=0, batch_size=8) == pytest.approx(expected, rel=1e-5)
    weights = np.linspace(0, 2, len(X)).astype(np.float32)
    histories = [m.fit(X, X, sample_weight=weights, epochs=2, **FIT) for m in (trainer, other)]
    for loss in zip(*(h.history["loss"] for h in histories), strict=True):
        assert loss[0] == pytest.approx(loss[1], rel=1e-5)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_calls_of_a_criterion_are_averaged():
    # The RCAE calls the model twice at the same points.
    criterion = ReconstructionContractiveLoss(0.1)
    trainer, model = ours("all", criterion)
    x = tf.constant(X)
    losses = criterion(model, x, x)
    _ = model(x)
    expected = float(tf.reduce_mean(losses) + tf.add_n(model.losses))
    assert trainer.evaluate(X, verbose=0, batch_size=24) == pytest.approx(expected, rel=1e-5)
    # The norm of the contractive loss calls the encoder alone, which counts no second time.
    trainer, model = ours("weights")
    trainer.criterion = ContractiveLoss(model.layers[0], 0.1)
    losses = trainer.criterion(model, x, x)
    expected = float(tf.reduce_mean(losses) + tf.add_n(model.losses))
    assert trainer.evaluate(X, verbose=0, batch_size=24) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("walkback", [1, 3, gsn.Walkback(3, loss="last"), gsn.Walkback((2, 3))])
@pytest.mark.parametrize("kind", ["all", "none"])
def test_gsn(kind, walkback):
    # Without corruption and with a narrow P(x | h), every round begins near the last mean.
    model = gsn.WalkbackAutoEncoder(
        network(kind), corruption=None, walkback=walkback, reconstruction=gsn.Normal(1e-7)
    )
    model.compile(keras.optimizers.SGD(0.0))
    bare = gsn.WalkbackAutoEncoder(
        keras.models.clone_model(model.network, clone_function=_without_penalties),
        corruption=None, walkback=walkback, reconstruction=gsn.Normal(1e-7),
    )  # fmt: skip
    bare.network.set_weights(model.network.get_weights())
    bare.compile(keras.optimizers.SGD(0.0))
    losses, means = [], [tf.constant(X)]
    for _ in range(3):
        means.append(model.network(means[-1]))
        losses.append(float(tf.add_n(model.network.losses)) if model.network.losses else 0.0)
    settings = gsn.Walkback.of(walkback)
    if settings.loss == "last":
        expected = [losses[2]]
    else:
        numbers = [n for n, p in enumerate(settings.probabilities(), 1) if p]
        expected = [sum(losses[:n]) / settings.mean_steps for n in numbers]
        if kind == "all":  # the regularizer of weights counts once
            weights = float(L2(model.network.layers[0].kernel))
            expected = [e - (n / settings.mean_steps - 1) * weights
                        for e, n in zip(expected, numbers, strict=True)]  # fmt: skip
    difference = model.evaluate(X, verbose=0, batch_size=24)
    scale = abs(difference)
    difference -= bare.evaluate(X, verbose=0, batch_size=24)
    assert any(difference == pytest.approx(e, abs=1e-4 + 4e-7 * scale) for e in expected)


def _without_penalties(layer):
    config = layer.get_config()
    for name in ("kernel_regularizer", "activity_regularizer"):
        if name in config:
            config[name] = None
    if isinstance(layer, Penalty):
        return keras.layers.Identity()
    return type(layer).from_config(config)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs"])
def test_full_batch(method):
    # Ridge regression: mean |x - x W - b|^2 + .3 |W|^2, in closed form.
    layer = keras.layers.Dense(4, kernel_regularizer=L2)
    model = keras.Sequential([keras.Input((4,)), layer])
    fit = fit_full_batch(model, DenoisingLoss(None), X, method=method, batch_size=7, tol=1e-9)
    x = X.astype(np.float64)
    centered = x - x.mean(axis=0)
    covariance = centered.T @ centered / len(x)
    kernel = np.linalg.solve(covariance + 0.3 * np.eye(4), covariance)
    np.testing.assert_allclose(layer.kernel, kernel, atol=1e-5)
    error = np.square(centered - centered @ kernel).sum(axis=1).mean()
    assert fit.loss == pytest.approx(error + 0.3 * np.square(kernel).sum(), rel=1e-6)


@pytest.mark.parametrize("kind", ["activity", "add_loss", "all"])
def test_full_batch_refuses_what_is_no_mean_over_examples(kind):
    with pytest.raises(ValueError, match=r"`model` must be without.*CriterionModel"):
        fit_full_batch(network(kind), DenoisingLoss(0.1), X, max_iterations=1)
