"""A network whose chain is known: one hidden unit for each value of x, and no noise."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from thesis_tf import corruption, gsn
from thesis_tf.gsn.kernel import State
from thesis_tf.gsn.network import GenerativeStochasticNetwork

X = np.random.default_rng(0).integers(0, 2, (12, 3)).astype(np.float32)
ROWS = np.random.default_rng(1).permutation(12)
SEED = tf.constant([0, 1])


@keras.saving.register_keras_serializable(package="network_test")
class Small(GenerativeStochasticNetwork):
    """h' = tanh(w x~ + h), and outputs 2 h'."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.7), name="w")
        super().build(input_shape)

    def zero_hidden(self, x):
        return (tf.zeros_like(x),)

    def update(self, x, hidden, seed=None, training=False):
        h = tf.tanh(tf.cast(self.w.value, x.dtype) * x + (hidden[0] if hidden else 0.0))
        more = self.reconstruction.size - 1
        outputs = tf.stack([2 * h, *[h] * more], axis=-1) if more else 2 * h
        return (h,), outputs


def built(corruption=None, shape=(3,), **options):
    model = Small(corruption=corruption, **{"walkback": 1, **options})
    model.build((None, *shape))
    return model


def visited(times, x=X):
    """Returns hidden units after this many updates from zeros with x fixed, in NumPy."""
    h = np.zeros_like(x)
    for _ in range(times):
        h = np.tanh(0.7 * x + h)
    return h


def cross_entropies(x, logits):
    p = scipy.special.expit(logits)
    return -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)


def test_its_value_is_the_noiseless_reconstruction():
    np.testing.assert_allclose(built()(X), scipy.special.expit(2 * visited(1)), rtol=1e-5)
    real = built(reconstruction=gsn.Normal())
    np.testing.assert_allclose(real(X), 2 * visited(1), rtol=1e-5)


@pytest.mark.parametrize("burn_in", [0, 3])
def test_losses_of_one_round_are_cross_entropies(burn_in):
    model = built(initial_hidden=burn_in or "zeros")
    with tf.GradientTape() as tape:
        losses = model.example_losses(tf.constant(X), None, SEED, 0, True)
    expected = cross_entropies(X, 2 * visited(1 + burn_in))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    # No gradient flows through the burn-in: dh/dw = (1 - h^2) x only in the last update.
    h = visited(1 + burn_in)
    slope = ((scipy.special.expit(2 * h) - X) * 2 * (1 - h**2) * X).sum()
    assert tape.gradient(losses, model.w.value).numpy() == pytest.approx(slope, rel=1e-4)


@pytest.mark.slow
def test_stored_hidden_units_go_on_where_the_last_visit_ended(tmp_path):
    model = built(initial_hidden="stored", num_remembered=12)
    model.compile(keras.optimizers.SGD(0.0))
    for visit in (1, 2):
        history = model.fit(X, ROWS, batch_size=4, verbose=0).history
        expected = cross_entropies(X, 2 * visited(visit)).mean()
        assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(model._stored[0].numpy()[ROWS], visited(visit), rtol=1e-5)
    # Validation begins with zeros and stores nothing.
    loss = model.evaluate(X, ROWS, verbose=0)
    assert loss == pytest.approx(cross_entropies(X, 2 * visited(1)).mean(), rel=1e-5)
    np.testing.assert_allclose(model._stored[0].numpy()[ROWS], visited(2), rtol=1e-5)
    # They are as large as the training set and useless for sampling, so they aren't saved.
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(again(X), model(X))
    assert not again._stored[0].numpy().any()


def test_scaling_factors():
    assert built(walkback=3).log_alpha is None
    np.testing.assert_array_equal(built(walkback=3).alphas, np.ones(3))
    model = built(walkback=3, scaling=True)
    model.log_alpha.assign([0.5, -1.0])
    np.testing.assert_allclose(model.alphas, np.exp([0, 0.5, -1.0]), rtol=1e-6)
    assert model.alpha(0) is None
    assert float(model.alpha(2)) == pytest.approx(np.exp(-1.0))
    assert built(walkback=1, scaling=True).log_alpha is None  # alpha_1 is always 1


@pytest.mark.parametrize("alpha", ["first", "random"])
def test_a_step_of_the_chain_has_the_probabilities_that_it_should(alpha):
    model = built(corruption.SaltAndPepper(0.4), (1,), walkback=2, scaling=True)
    model.log_alpha.assign([-2.0])
    n = 20_000
    state = State(tf.ones((n, 1)), (tf.fill((n, 1), -0.3),), tf.zeros((n, 1)))
    kernel = model.transition_kernel(alpha=alpha)
    after = kernel.step(state, SEED)
    # x~ is 0 with a probability of 0.4 / 2.
    h = np.tanh(0.7 * np.array([0, 1]) - 0.3)
    np.testing.assert_allclose(np.unique(after.hidden[0]), h, rtol=1e-5)
    np.testing.assert_allclose(after.distribution_parameters, 2 * after.hidden[0])
    deviation = (0.2 * 0.8 / n) ** 0.5
    assert np.mean(after.hidden[0] < h.mean()) == pytest.approx(0.2, abs=5 * deviation)
    alphas = {"first": [1.0], "random": [1.0, np.exp(-2.0)]}[alpha]
    ones = np.mean([[0.2, 0.8] @ scipy.special.expit(a * 2 * h) for a in alphas])
    assert np.mean(after.x) == pytest.approx(ones, abs=5 * (ones * (1 - ones) / n) ** 0.5)
    np.testing.assert_array_equal(kernel.step(state, SEED).x, after.x)
    np.testing.assert_allclose(kernel.mean(after), scipy.special.expit(2 * after.hidden[0]), 1e-5)
    assert kernel.distribution_parameters(after) is after.distribution_parameters


@pytest.mark.parametrize("reconstruction", [gsn.Bernoulli(), gsn.Normal()], ids=str)
def test_states_keep_their_structure(reconstruction):
    model = built(reconstruction=reconstruction)
    first = model.initial_state(X.astype(np.float64))
    assert not np.any(first.hidden[0])
    after = model.transition_kernel().step(model.initial_state(X), SEED)
    for a, b in zip(first, after, strict=True):
        assert tf.nest.map_structure(lambda t: t.shape, a) == tf.nest.map_structure(
            lambda t: t.shape, b
        )
    assert after.x.dtype == X.dtype
    assert first.x.dtype == tf.float64


def test_a_config_makes_the_same_network():
    model = built(
        corruption.Masking(0.2),
        walkback=gsn.Walkback(5, stop=0.5),
        scaling=True,
        reconstruction=gsn.Normal(0.1),
        initial_hidden=2,
        seed=4,
    )
    again = Small.from_config(model.get_config())
    for name in ("corruption", "walkback", "scaling", "reconstruction", "initial_hidden", "seed"):
        assert getattr(again, name) == getattr(model, name)


def stored(x, rows):
    model = built(initial_hidden="stored", num_remembered=12)
    model.compile("sgd")
    model.fit(x, rows, verbose=0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Small(corruption=0.4), TypeError, "`corruption` must be None or an object with"),
        (lambda: Small(reconstruction="normal"), TypeError, "`reconstruction` must be an object"),
        (lambda: Small(initial_hidden="warm"), TypeError, "`initial_hidden`"),
        (lambda: Small(initial_hidden=0), ValueError, "`initial_hidden`"),
        (lambda: Small(initial_hidden="stored"), ValueError, "`num_remembered` must be the number"),
        (lambda: Small(num_remembered=3), ValueError, "`num_remembered`"),
        (lambda: Small().transition_kernel(), ValueError, "Fit it, or call it on x"),
        (lambda: built().transition_kernel(alpha="last"), ValueError, "`alpha` must be"),
        (lambda: built().fit(255 * X), ValueError, r"in \[0, 1\].*values in \[0, 255\]"),
        (lambda: stored(X, None), ValueError, r"pairs \(x, rows\).*Received: only x"),
        (lambda: stored(X, X[:, 0]), ValueError, r"Received: \(x, float32\)"),
        (lambda: GenerativeStochasticNetwork().update(X, None), NotImplementedError, None),
        (lambda: GenerativeStochasticNetwork().zero_hidden(X), NotImplementedError, None),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
