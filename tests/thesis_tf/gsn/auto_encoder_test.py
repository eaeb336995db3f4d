import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import corruption, mcmc
from thesis_tf.gsn import GSN, Normal, WalkbackAutoEncoder

X = np.random.default_rng(0).uniform(size=(30, 4)).astype(np.float32)


def network(outputs=4):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)])


def test_any_keras_model_can_be_trained():
    inner = network()
    model = WalkbackAutoEncoder(inner, corruption=corruption.Masking(0.3), walkback=2)
    model.compile(keras.optimizers.Adam(0.1))
    losses = model.fit(X, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(model(X), keras.ops.sigmoid(inner(X)), rtol=1e-6)
    assert len(model.trainable_variables) == 2
    assert model.zero_hidden(X) == ()


@pytest.mark.slow
def test_one_round_is_a_denoising_auto_encoder():
    # With one round, the best weights are those of a regression on noisy x.
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 1)).astype(np.float32)
    inner = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model = WalkbackAutoEncoder(
        inner, corruption=corruption.Gaussian(1.0), walkback=1, reconstruction=Normal(1.0)
    )
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, 500)))
    model.fit(x, epochs=5, batch_size=200, verbose=0)
    weight = float(inner.layers[0].kernel[0, 0])
    # E[x | x~] = x~ / 2 for unit variances; the slope's standard error is (1/2)^.5 / 2^.5 n^.5.
    assert weight == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5 + 0.005)


@pytest.mark.slow
def test_batch_normalization_acts_in_training_alone():
    inner = network()
    inner.add(keras.layers.BatchNormalization())
    model = WalkbackAutoEncoder(inner, walkback=2)
    model.compile(keras.optimizers.SGD(0.0))
    before = model(X)
    model.fit(X, epochs=2, verbose=0)
    assert np.abs(inner.layers[-1].moving_mean.numpy()).max() > 0
    assert np.abs(model(X) - before).max() > 0
    again = model(X)
    mcmc.sample_chain(model.transition_kernel(), X, 3)
    np.testing.assert_array_equal(model(X), again)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions(policy):
    keras.config.set_dtype_policy(policy)
    model = WalkbackAutoEncoder(network(), walkback=2)
    model.compile("adam")
    assert np.isfinite(model.fit(X, verbose=0).history["loss"]).all()


@keras.saving.register_keras_serializable(package="auto_encoder_test")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4)

    def call(self, x):
        return self.dense(x)


@pytest.mark.slow
def test_a_subclassed_network_is_saved_and_loaded(tmp_path):
    model = WalkbackAutoEncoder(Subclassed())
    model.compile("adam")
    model.fit(X, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(model(X), again(X))


@pytest.mark.slow
def test_data_sets_and_weights():
    model = WalkbackAutoEncoder(network())
    model.compile(keras.optimizers.SGD(1.0))
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(10)
    model.fit(dataset, verbose=0)
    before = model.get_weights()
    model.fit(X, X, sample_weight=np.zeros(30), verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        model.fit(dataset.map(lambda x: 255 * x), verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` must be given with targets"):
        model.fit(X, sample_weight=np.zeros(30), verbose=0)
    with pytest.raises(ValueError, match="`class_weight` must be left out"):
        model.fit(X, X, class_weight={0: 1.0}, verbose=0)


def test_a_subclassed_network_is_checked_when_it_is_built():
    class Inner(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = WalkbackAutoEncoder(Inner())
    model.compile("adam")
    with pytest.raises(ValueError, match=r"`network` must be a model from \(4,\) to \(4,\)"):
        model.fit(X, verbose=0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: WalkbackAutoEncoder(3), TypeError, "`network` must be a keras.Model"),
        (lambda: WalkbackAutoEncoder(network(3)), ValueError, r"to \(4,\), the parameters"),
        (
            lambda: WalkbackAutoEncoder(network(), reconstruction=Normal()),
            ValueError,
            r"to \(4, 2\), the parameters of Normal",
        ),
        (
            lambda: WalkbackAutoEncoder(network(), initial_hidden=2),
            ValueError,
            r"`initial_hidden` must be .*no hidden state",
        ),
        (lambda: WalkbackAutoEncoder(network()).fit(X * np.nan), ValueError, "finite"),
        (
            lambda: WalkbackAutoEncoder(network(), reconstruction="normal"),
            TypeError,
            "`reconstruction` must be an object",
        ),
        (lambda: GSN([3]).transition_kernel(), ValueError, "Fit it, or call it on x"),
        (lambda: GSN(3), ValueError, "`layer_sizes` must be a list"),
        (lambda: GSN([3]).fit(X + 1), ValueError, r"in \[0, 1\]"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
