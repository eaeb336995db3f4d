import keras
import numpy as np
import pytest

from models.gsn import GSN
from thesis_tf import corruption
from thesis_tf.gsn import Normal, WalkbackAutoEncoder

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


def test_one_round_is_a_denoising_auto_encoder():
    # With one round the best weights are those of a regression on noisy x.
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
        (lambda: WalkbackAutoEncoder(network(), start=2), ValueError, "no hidden units"),
        (lambda: GSN([3]).fit(X + 1), ValueError, r"in \[0, 1\]"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
