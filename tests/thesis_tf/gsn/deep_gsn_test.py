import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import corruption, gsn
from thesis_tf.gsn import GSN

RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (20, 4, 4, 1)).astype(np.float32)
NOISY = corruption.SaltAndPepper(0.3)


def randomised(model, shape=(4, 4, 1)):
    """Builds a model, and gives its biases random values instead of zeros."""
    model.build((None, *shape))
    for index, variable in enumerate(model.trainable_variables):
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=index))
    return model


def updated_by_hand(model, x, hidden):
    """Returns one noiseless update of a model with three layers, in NumPy."""
    w1, w2, w3 = (k.numpy() for k in model._kernels)
    b0, b1, b2, b3 = (b.numpy() for b in model._biases)
    x, (h2,) = x.reshape(len(x), -1), hidden
    h1 = np.tanh(x @ w1 + h2 @ w2.T + b1)
    h3 = np.tanh(h2 @ w3 + b3)
    h2 = np.tanh(h1 @ w2 + h3 @ w3.T + b2)
    return h2, h1 @ w1.T + b0


def test_an_update_is_that_of_figure_5_5():
    model = randomised(GSN([5, 4, 3], noise=2.0, corruption=None))
    h2 = RNG.normal(size=(20, 4)).astype(np.float32)
    (new,), outputs = model.update(X, (h2,))
    expected = updated_by_hand(model, X, (h2,))
    np.testing.assert_allclose(new, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tf.reshape(outputs, (20, 16)), expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sizes", [[5], [5, 4], [5, 4, 3], [5, 4, 3, 2]])
def test_zeros_may_be_left_out(sizes):
    model = randomised(GSN(sizes, noise=0.7))
    zeros = model.zero_hidden(X)
    assert [part.shape[1] for part in zeros] == sizes[1::2]
    for seed in (None, tf.constant([1, 2])):
        left_out, given = model.update(X, None, seed=seed), model.update(X, zeros, seed=seed)
        for a, b in zip(tf.nest.flatten(left_out), tf.nest.flatten(given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_noise_before_and_after_the_activation():
    model = GSN([3, 20_000], noise=(0.5, 0.1), corruption=None)
    model.build((None, 4))
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    (h2,), outputs = model.update(np.zeros((1, 4), np.float32), None, seed=tf.constant([0, 1]))
    # tanh(.5 e) + .1 e' has this variance, by quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    variance = (weights * np.tanh(0.5 * nodes) ** 2).sum() / weights.sum() + 0.1**2
    assert np.var(h2) == pytest.approx(variance, rel=5 * (2 / 20_000) ** 0.5)
    np.testing.assert_array_equal(outputs, np.zeros((1, 4)))  # the first layer has no noise
    silent = GSN([3, 5], noise=0, corruption=None)
    silent.build((None, 4))
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        silent.update(x, None, seed=tf.constant([0, 1]))[1], silent.update(x, None)[1]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "reconstruction"),
    [
        ("float32", gsn.Normal(0.2)),
        ("float32", gsn.NormalMixture(2)),
        ("float64", None),
        ("mixed_bfloat16", gsn.Normal()),
    ],
    ids=str,
)
def test_compile_fit_save_load(policy, reconstruction, tmp_path):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = GSN(
        [6, 5],
        noise=0.5,
        reconstruction=reconstruction,
        corruption=NOISY,
        walkback=2,
        scaling=True,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    losses = model.fit(X, epochs=3, batch_size=10, verbose=0, validation_data=X).history
    assert losses["val_loss"][-1] < losses["val_loss"][0]  # with the same noise
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))
    assert again.predict(X, verbose=0).shape == X.shape
    state = model.initial_state(X)
    for m in (model, again):
        m.fit(X, epochs=1, batch_size=10, verbose=0, shuffle=False)
    for a, b in zip(model.variables, again.variables, strict=True):
        np.testing.assert_allclose(tf.cast(a, "float64"), tf.cast(b, "float64"), atol=1e-6)
    after = model.transition_kernel(alpha="random").step(state, tf.constant([0, 1]))
    assert after.x.dtype == state.x.dtype
    assert after.distribution_parameters.dtype == model.example_dtype


@pytest.mark.slow
def test_two_devices_take_part(two_devices):
    strategy = tf.distribute.MirroredStrategy(
        two_devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = GSN([6, 5], noise=0.5, corruption=NOISY)
        model.compile("adam")
    losses = model.fit(X, epochs=3, batch_size=10, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    with strategy.scope():
        stored = GSN([6, 5], initial_hidden="stored", num_remembered=20)
        stored.compile("adam")
    with pytest.raises(
        ValueError, match="`initial_hidden` must be 'zeros' or a number on several devices"
    ):
        stored.fit(X, np.arange(20), batch_size=10, verbose=0)


@pytest.mark.slow
def test_random_rounds_train():
    model = GSN([6, 5], walkback=gsn.Walkback(4, stop=0.5), scaling=True)
    model.compile("adam")
    assert np.isfinite(model.fit(X, epochs=2, batch_size=5, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: GSN([]), ValueError, "`layer_sizes` must be a list of at least one size"),
        (lambda: GSN([3, 0]), ValueError, "`layer_sizes` must be a positive integer"),
        (lambda: GSN([3], noise=-1), ValueError, "`noise` must be a standard deviation of at le"),
        (lambda: GSN([3], noise=(1, 2, 3)), ValueError, "`noise`"),
        (lambda: GSN([3], noise=float("nan")), ValueError, "`noise`"),
        (lambda: GSN([3], corruption=0.4), TypeError, r"object with sample\(x, seed\)"),
        (lambda: GSN([3], initial_hidden="warm"), TypeError, "`initial_hidden`"),
        (
            lambda: GSN([3], initial_hidden="stored"),
            ValueError,
            "`num_remembered` must be the number of training",
        ),
        (lambda: GSN([3], num_remembered=3), ValueError, "`num_remembered`"),
        (lambda: GSN([3]).compile("adam", "mse"), ValueError, "GSN has a built-in loss"),
        (lambda: fit(X * 255), ValueError, r"in \[0, 1\].*values in \[0, 255\]"),
        (lambda: fit(X.astype(np.uint8)), TypeError, "of a floating dtype"),
        (lambda: fit(X, np.zeros(20)), ValueError, "The target.*Don't pass labels"),
        (
            lambda: fit(X, initial_hidden="stored", num_remembered=20),
            ValueError,
            r"pairs \(x, rows\)",
        ),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()


def fit(x, y=None, **kwargs):
    model = GSN([3, 2], **kwargs)
    model.compile("adam")
    model.fit(x, y, verbose=0)
