"""Tools of all areas on 2 and 4 devices find what they find on one.

Live probes are in `probes_on_replicas_test`. Elsewhere: `issgd.Trainer` and its peers, refusals of
`NegativeCurvature` and `ImportanceSampling`, and noise, which each replica draws for itself.
"""

import keras
import numpy as np
import pytest

from thesis_tf import autoencoders, gradient_norms, hessian, probes

OPTIMIZED_GRAPHS = True

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = RNG.integers(0, 3, 24)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, "tanh", name="hidden"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    return model


def autoencoder(regularizer=None):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, "tanh", kernel_regularizer=regularizer), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((4,)), *layers])


def operator(kind, examples):
    def found(folder):
        products = kind(classifier(), LOSS, (X[:examples], Y[:examples]), batch_size=8)
        return products.loss(), products.gradient(), products @ np.ones(products.shape[0], "f")

    return found


def extracted(examples):
    def found(folder):
        store = probes.extract(
            classifier(), X[:examples], folder, taps="hidden", batch_size=8, verbose=0
        )
        return store.read("hidden", np.arange(examples))

    return found


def norms(folder):
    return gradient_norms.per_example_gradient_norms(classifier(), LOSS)(X[:7], Y[:7])


def hessian_monitor(folder):
    # All batches divide: otherwise Keras' own training would be another one.
    model = classifier()
    monitor = hessian.HessianMonitor(
        (X[:22], Y[:22]), folder, measure_every=3, largest=2, smallest=1, verbose=0
    )
    model.fit(X, Y, batch_size=8, shuffle=False, epochs=2, verbose=0, callbacks=[monitor])
    entries = monitor.history.entries
    assert len(entries) == 3
    return [(each.loss, each.largest, each.smallest) for each in entries], model.get_weights()


def criterion(regularizer=None, **fitted):
    def found(folder):
        # The last batch of 5 gives the last of four replicas nothing.
        model = autoencoder(regularizer)
        training = autoencoders.CriterionModel(
            model, autoencoders.ReconstructionContractiveLoss(0.1)
        )
        training.compile(keras.optimizers.SGD(0.1))
        history = training.fit(
            X[:21], X[:21], batch_size=8, shuffle=False, epochs=2, verbose=0, **fitted
        )
        return model.get_weights(), history.history["loss"]

    return found


def full_batch(folder):
    model = autoencoder()
    criterion = autoencoders.ReconstructionContractiveLoss(0.1)
    autoencoders.fit_full_batch(model, criterion, X[:21])
    return model.get_weights()


TOOLS = {
    "HessianOperator": operator(hessian.HessianOperator, 21),
    "GaussNewtonOperator, one example": operator(hessian.GaussNewtonOperator, 1),
    "HessianMonitor": hessian_monitor,
    "extract": extracted(21),
    "extract, one example": extracted(1),
    "per_example_gradient_norms": norms,
    "CriterionModel": criterion(),
    "CriterionModel, sample weights": criterion(sample_weight=np.linspace(0, 2, 21)),
    "CriterionModel, a regularizer": criterion("l2"),
    "fit_full_batch": full_batch,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOOLS)
def test_devices_find_the_same(name, strategy_of, tmp_path):
    wanted, *found = [], [], []
    for devices, values in ((1, wanted), (2, found[0]), (4, found[1])):
        with strategy_of(devices).scope():
            values += keras.tree.flatten(TOOLS[name](tmp_path / str(devices)))
    for values in found:
        for value, expected in zip(values, wanted, strict=True):
            # float32 sums of two dozen terms in another order, over at most six steps.
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=2e-5)
