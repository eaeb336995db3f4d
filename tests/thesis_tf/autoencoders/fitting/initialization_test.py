import keras
import numpy as np
import pytest

from thesis_tf import corruption
from thesis_tf.autoencoders import DenoisingLoss, KernelDensity, SampledNoise, initialize_from_data
from thesis_tf.autoencoders.fitting import initialization

RNG = np.random.default_rng(0)


def network(size=2, units=60, activation="tanh"):
    keras.utils.set_random_seed(0)
    encoder, decoder = keras.layers.Dense(units, activation), keras.layers.Dense(size)
    return keras.Sequential([keras.Input((size,)), encoder, decoder])


def circle(count, seed):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_weighted_least_squares():
    x, clean, weights = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 2)), RNG.uniform(size=30)
    found = initialization._ridge(lambda rows: rows, clean, x, weights, 0.1)
    gram = x.T @ np.diag(weights) @ x
    penalty = 0.1 * np.trace(gram) / 4 * np.eye(4)
    expected = np.linalg.solve(gram + penalty, x.T @ np.diag(weights) @ clean)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_rows_make_no_difference(monkeypatch):
    x, clean, weights = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 2)), RNG.uniform(size=30)
    whole = initialization._ridge(lambda rows: rows, clean, x, weights, 0.0)
    monkeypatch.setattr(initialization, "_ROWS", 7)
    parts = initialization._ridge(lambda rows: rows, clean, x, weights, 0.0)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("noise", [0.1, SampledNoise(0.1, 1.0), corruption.Gaussian(0.1)])
def test_the_start_is_near_the_best_there_is(noise, activation):
    x, test, sigma = circle(3000, 0), circle(3000, 1), 0.1
    model = network(activation=activation)
    found = initialize_from_data(*model.layers, x, noise)
    assert found.scale in found.losses
    noisy = test + sigma * RNG.normal(size=test.shape).astype(np.float32)
    losses = [np.square(np.asarray(r(noisy)) - test).sum(axis=1).mean() / sigma**2
              for r in (model, KernelDensity(x, sigma).reconstruct)]  # fmt: skip
    # The identity has 2, and Keras' initial weights have more.
    assert losses[0] < 1.15 * losses[1]
    assert losses[1] == pytest.approx(1.0, abs=0.1)


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for seed in (1, 1, 2):
        model = network(units=10)
        initialize_from_data(*model.layers, circle(100, 0), 0.1, seed=seed)
        weights.append(model.get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).all()


def test_images_and_few_examples():
    x = RNG.uniform(size=(4, 3, 3, 1))
    model = network(9, 20)
    initialize_from_data(*model.layers, x, corruption.Masking(0.3))
    assert np.isfinite(model(x.reshape(4, 9))).all()
    initialize_from_data(*model.layers, x[:1], 0.1)
    loss = DenoisingLoss(None)(model, np.asarray(x[:1].reshape(1, 9), np.float32))
    assert float(loss[0]) < 0.1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"x": np.zeros((5, 3))}, "of d values"),
        ({"decoder": keras.layers.Dense(2)}, "`decoder` must be a built"),
        ({"encoder": keras.layers.Flatten()}, "`encoder` must be a built"),
        ({"decoder": "sigmoid"}, "`decoder` must be linear"),
        ({"x": np.full((5, 2), np.inf)}, "`x` must be finite"),
        ({"corruption": 0.0}, "`corruption` must be a positive"),
        ({"num_copies": 0}, "`num_copies`"),
    ],
)
def test_bad_input(arguments, match):
    encoder, decoder = network().layers
    if arguments.get("decoder") == "sigmoid":
        arguments = {
            "decoder": keras.Sequential(
                [keras.Input((60,)), keras.layers.Dense(2, "sigmoid")]
            ).layers[0]
        }
    given = {"encoder": encoder, "decoder": decoder, "x": circle(9, 0), "corruption": 0.1}
    with pytest.raises(ValueError, match=match):
        initialize_from_data(**{**given, **arguments})


dense = keras.layers.Dense


def chain(*between, before=(), behind=(), sequential=True):
    encoder, decoder = dense(5, "tanh", name="encoder"), dense(2, name="decoder")
    layers = [*before, encoder, *between, decoder, *behind]
    if sequential:
        keras.Sequential([keras.Input((2,)), *layers])
    else:
        x = inputs = keras.Input((2,))
        for layer in layers:
            x = layer(x)
        keras.Model(inputs, x)
    return encoder, decoder


GRAPHS = {
    "adjacent": (lambda **k: chain(**k), None),
    "dropout": (lambda **k: chain(keras.layers.Dropout(0.1), **k), None),
    "noise": (lambda **k: chain(before=[keras.layers.GaussianNoise(0.1)], **k), None),
    "reshaped": (lambda **k: chain(behind=[keras.layers.Reshape((2, 1))], **k), None),
    "a hidden layer between": (lambda **k: chain(dense(5, name="middle"), **k), "between.*middle"),
    "an activation between": (lambda **k: chain(keras.layers.ReLU(name="a"), **k), "between.*a"),
    "batch normalization": (
        lambda **k: chain(keras.layers.BatchNormalization(name="bn"), **k), "between.*bn",
    ),
    "scaled inputs": (
        lambda **k: chain(before=[keras.layers.Rescaling(0.1, name="s")], **k), "before.*s",
    ),
    "an activation behind": (
        lambda **k: chain(behind=[keras.layers.Activation("tanh", name="t")], **k), "behind.*t",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_layers_that_are_not_alone(name, sequential):
    make, match = GRAPHS[name]
    x = np.random.default_rng(0).normal(size=(20, 2))
    layers = make(sequential=sequential)
    if match is None:
        initialize_from_data(*layers, x, 0.1, scales=[0.1], num_copies=1)
        return
    with pytest.raises(ValueError, match=f"The layers {match}"):
        initialize_from_data(*layers, x, 0.1, scales=[0.1], num_copies=1)
