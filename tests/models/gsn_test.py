import keras
import numpy as np
import pytest
import tensorflow as tf

from models.gsn import convolutional_dae, walkback_dae
from thesis_tf import corruption, gsn

X = np.random.default_rng(0).integers(0, 2, (20, 4, 4, 1)).astype(np.float32)
NOISY = corruption.SaltAndPepper(0.3)


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
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_compile_fit_save_load(kind, policy, reconstruction, tmp_path):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = {
        "dense": lambda **kw: walkback_dae((4, 4, 1), units=7, **kw),
        "convolutional": lambda **kw: convolutional_dae((4, 4, 1), filters=(3, 4), **kw),
    }[kind](reconstruction=reconstruction, corruption=NOISY, walkback=2, scaling=True)
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
@pytest.mark.parametrize("binary", [True, False])
def test_scaling_factors_say_that_later_rounds_are_less_certain(binary):
    rng = np.random.default_rng(0)
    prototypes = rng.integers(0, 2, (8, 16))
    x = prototypes[rng.integers(8, size=400)] ^ (rng.uniform(size=(400, 16)) < 0.1)
    x = x.astype(np.float32)
    if not binary:
        x += 0.1 * rng.normal(size=x.shape).astype(np.float32)
    model = walkback_dae(
        (16,),
        units=30,
        walkback=3,
        scaling=True,
        corruption=corruption.SaltAndPepper(0.4) if binary else corruption.Gaussian(0.5),
        reconstruction=gsn.Bernoulli() if binary else gsn.Normal(),
    )
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, epochs=30, batch_size=100, verbose=0)
    first, second, third = model.alphas.numpy()
    assert first == 1
    assert third < second < 0.95 if binary else third > second > 1.05


@pytest.mark.parametrize(
    ("input_shape", "match"), [((6, 6, 1), "sides divisible by 4"), ((8,), "`input_shape`")]
)
def test_shapes_that_do_not_fit(input_shape, match):
    with pytest.raises(ValueError, match=match):
        convolutional_dae(input_shape)
