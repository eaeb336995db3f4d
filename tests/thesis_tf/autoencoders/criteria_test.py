import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import corruption
from thesis_tf.autoencoders import (
    ContractiveLoss,
    DenoisingLoss,
    KernelDensity,
    ReconstructionContractiveLoss,
    SampledNoise,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3))
MATRIX = RNG.normal(size=(3, 3))
WEIGHTS = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=(4, 3)), RNG.normal(size=3)


def linear(x):
    return x @ MATRIX


def hidden(x):
    return tf.tanh(x @ WEIGHTS[0] + WEIGHTS[1])


def network(x):
    return hidden(x) @ WEIGHTS[2] + WEIGHTS[3]


def jacobians():
    """Returns dh/dx (n, 4, 3) and dr/dx (n, 3, 3) of the network by their formulas."""
    slope = 1 - np.tanh(X @ WEIGHTS[0] + WEIGHTS[1]) ** 2
    encoder = slope[:, :, None] * WEIGHTS[0].T
    return encoder, WEIGHTS[2].T @ encoder


def mean_and_error(function, x, copies, seed=(0, 0)):
    """Returns the mean loss of one example over many draws, and its standard error."""
    losses = function(np.repeat(x, copies, axis=0), seed=seed).numpy()
    return losses.mean(), losses.std() / copies**0.5


def test_the_denoising_loss_of_a_linear_function():
    sigma = 0.4
    found, error = mean_and_error(
        lambda x, seed: DenoisingLoss(sigma)(linear, tf.constant(x), seed=seed), X[:1], 100_000
    )
    off = X[0] @ MATRIX - X[0]
    assert found == pytest.approx(off @ off + sigma**2 * np.sum(MATRIX**2), abs=4 * error)


def test_the_same_seed_is_the_same_loss():
    criterion, x = DenoisingLoss(0.3), tf.constant(X)
    first = criterion(network, x, seed=(1, 2))
    np.testing.assert_array_equal(first, criterion(network, x, seed=(1, 2)))
    assert (first.numpy() != criterion(network, x, seed=(1, 3)).numpy()).all()


def test_corrupted_inputs_and_targets_of_ones_own():
    noisy, x = tf.constant(X + 0.1), tf.constant(X)
    found = DenoisingLoss(None)(linear, noisy, x)
    np.testing.assert_allclose(found, np.square((X + 0.1) @ MATRIX - X).sum(axis=1))


def test_walkback_corrupts_reconstructions_and_compares_with_the_example():
    class Shift:
        def sample(self, x, seed):
            return x + 1.0

    x = tf.constant(X)
    found = DenoisingLoss(Shift(), walkback=3)(linear, x)
    expected, state = 0.0, X
    for _ in range(3):
        state = (state + 1.0) @ MATRIX
        expected = expected + np.square(state - X).sum(axis=1) / 3
    np.testing.assert_allclose(found, expected)


def test_no_gradient_goes_through_the_steps_before():
    scale = tf.Variable(0.9, dtype=tf.float64)

    def gradient(walkback, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(DenoisingLoss(0.1, walkback=walkback)(lambda z: scale * z, x))
        return tape.gradient(loss, scale).numpy()

    x = tf.constant(X)
    seeds = [tf.random.experimental.stateless_fold_in((0, 0), turn) for turn in range(2)]
    noise = [corruption.Gaussian(0.1).sample(tf.zeros_like(x), seed).numpy() for seed in seeds]
    first = X + noise[0]
    second = 0.9 * first + noise[1]
    expected = sum(np.sum(2 * (0.9 * z - X) * z) for z in (first, second)) / 2
    assert gradient(2, x) == pytest.approx(expected, rel=1e-12)


def test_importance_weights_multiply_the_losses():
    noise, x, seed = SampledNoise(0.1, 2.0), tf.constant(X), (3, 1)
    drawn = noise.draw(x, tf.random.experimental.stateless_fold_in(seed, 0))
    expected = drawn.importance_weights * np.square(drawn.x.numpy() - X).sum(axis=1)
    np.testing.assert_allclose(DenoisingLoss(noise)(tf.identity, x, seed=seed), expected)


def test_bernoulli_cross_entropies():
    x = tf.constant(RNG.uniform(size=(4, 2, 3)))
    logits = tf.constant(RNG.normal(size=(4, 2, 3)))
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).numpy().sum(axis=(1, 2))
    still = corruption.Gaussian(1e-12)
    loss = DenoisingLoss(still, distance="bernoulli_from_logits")
    np.testing.assert_allclose(loss(lambda _: logits, x), expected, rtol=1e-9)
    loss = DenoisingLoss(still, distance="bernoulli")
    np.testing.assert_allclose(loss(lambda _: tf.sigmoid(logits), x), expected, rtol=1e-6)


@pytest.mark.slow
def test_contractive_losses_by_hand():
    x = tf.constant(X)
    encoder, whole = (np.square(j).sum(axis=(1, 2)) for j in jacobians())
    distance = np.square(network(x).numpy() - X).sum(axis=1)
    found = ContractiveLoss(hidden, 0.7)(network, x)
    np.testing.assert_allclose(found, distance + 0.7 * encoder, rtol=1e-12)
    found = ReconstructionContractiveLoss(0.6)(network, x)
    np.testing.assert_allclose(found, distance + 0.36 * whole, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("num_vectors", [1, 4])
def test_hutchinson_is_unbiased_and_as_noisy_as_it_says(num_vectors):
    options = {"jacobian_norm": "hutchinson", "num_vectors": num_vectors}
    for exact, estimated in (
        (ContractiveLoss(hidden, 1.0), ContractiveLoss(hidden, 1.0, **options)),
        (ReconstructionContractiveLoss(1.0), ReconstructionContractiveLoss(1.0, **options)),
    ):
        copies = 40_000
        x = tf.constant(np.repeat(X[:1], copies, axis=0))
        losses = estimated(network, x, seed=(5, 6)).numpy()
        (truth,) = exact(network, tf.constant(X[:1])).numpy()
        assert losses.mean() == pytest.approx(truth, abs=4 * losses.std() / copies**0.5)
        norm = truth - np.square(network(x[:1]).numpy() - X[:1]).sum()
        assert losses.std() <= 1.02 * (2 / num_vectors) ** 0.5 * norm


@pytest.mark.slow
@pytest.mark.parametrize("jacobian_norm", ["exact", "hutchinson"])
def test_norms_of_jacobians_can_be_differentiated_again(jacobian_norm):
    kernel = tf.Variable(WEIGHTS[0])

    def loss():
        def encoder(x):
            return tf.tanh(x @ kernel + WEIGHTS[1])

        criterion = ContractiveLoss(encoder, 0.7, jacobian_norm=jacobian_norm)
        return tf.reduce_sum(criterion(lambda x: encoder(x) @ WEIGHTS[2], tf.constant(X)))

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, kernel).numpy()
    for place in ((0, 1), (2, 3)):
        values = []
        for step in (1e-5, -1e-5):
            kernel.assign(WEIGHTS[0])
            kernel[place].assign(WEIGHTS[0][place] + step)
            values.append(loss().numpy())
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_the_best_reconstruction_has_the_least_loss():
    data = RNG.normal(size=(20, 2))
    criterion, x = DenoisingLoss(0.5), tf.constant(np.repeat(data, 2000, axis=0))
    best = KernelDensity(data, 0.5).reconstruct
    losses = [tf.reduce_mean(criterion(r, x)).numpy() for r in (best, tf.identity, tf.zeros_like)]
    assert losses[0] < min(losses[1:])


@pytest.mark.slow
def test_keras_models_of_every_layer():
    x = tf.constant(RNG.uniform(size=(3, 8, 8, 1)), tf.float32)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="tanh"),
            layers.LayerNormalization(),
            layers.Conv2D(1, 3, padding="same"),
        ]
    )
    for criterion in (
        DenoisingLoss(corruption.Masking(0.5)),
        DenoisingLoss(corruption.SaltAndPepper(0.3), walkback=2),
        ReconstructionContractiveLoss(0.1),
        ReconstructionContractiveLoss(0.1, jacobian_norm="hutchinson"),
        ContractiveLoss(model.layers[0], 0.1, jacobian_norm="hutchinson"),
    ):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(criterion(model, x))
        gradients = tape.gradient(loss, model.trainable_variables[:2])
        assert all(np.isfinite(g).all() and np.any(g) for g in gradients)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: DenoisingLoss(0.0), ValueError, "`corruption` must be a positive"),
        (lambda: DenoisingLoss("noise"), TypeError, "`corruption` must be a positive"),
        (lambda: DenoisingLoss(0.1, distance="l1"), ValueError, "one of squared_error"),
        (lambda: DenoisingLoss(0.1, walkback=0), ValueError, "`walkback`"),
        (lambda: DenoisingLoss(None, walkback=2), ValueError, "1 without a corruption"),
        (lambda: ContractiveLoss(hidden, -1.0), ValueError, "`coefficient`"),
        (lambda: ContractiveLoss("encoder", 1.0), TypeError, "`encoder`"),
        (
            lambda: ContractiveLoss(hidden, 1.0, jacobian_norm="all"),
            ValueError,
            "exact, hutchinson",
        ),
        (lambda: ReconstructionContractiveLoss(0.0), ValueError, "`sigma`"),
        (lambda: ReconstructionContractiveLoss(1.0, num_vectors=0), ValueError, "`num_vectors`"),
        (
            lambda: DenoisingLoss(0.1)(lambda x: x[:, :1], tf.constant(X)),
            ValueError,
            r"the shape of x, \(5, 3\)",
        ),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
