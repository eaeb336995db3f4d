import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders import (
    ContractiveLoss,
    DecreasingNoise,
    DenoisingLoss,
    ReconstructionContractiveLoss,
    fit_full_batch,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)) @ np.diag([1.0, 0.5, 0.1]) + 0.3
METHODS = ["lbfgs", "bfgs"]


def linear(dtype="float64"):
    layer = keras.layers.Dense(3, dtype=dtype)
    return keras.Sequential([keras.Input((3,), dtype=dtype), layer])


def network(dtype="float64", seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(6, "tanh", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    return keras.Sequential([keras.Input((3,), dtype=dtype), *layers])


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_auto_encoder_is_least_squares(method):
    noisy = X + 0.2 * RNG.normal(size=X.shape)
    design = np.c_[noisy, np.ones(len(X))]
    solution, *_ = np.linalg.lstsq(design, X, rcond=None)
    model = linear()
    fit = fit_full_batch(model, DenoisingLoss(None), noisy, target=X, method=method, tol=1e-9)
    assert fit.converged
    assert fit.loss == pytest.approx(np.square(design @ solution - X).sum(axis=1).mean(), rel=1e-9)
    np.testing.assert_allclose(model.get_weights()[0], solution[:3], atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], solution[3], atol=1e-6)
    assert 1 <= fit.iterations <= fit.evaluations


def test_a_model_that_is_not_built_is_built_for_the_data():
    losses = []
    for inputs in ([keras.Input((3,), dtype="float64")], []):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([*inputs, keras.layers.Dense(3, dtype="float64")])
        losses.append(fit_full_batch(model, DenoisingLoss(None), X, max_iterations=2).loss)
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_batches_and_their_number_make_no_difference_without_noise(method):
    losses = []
    for batch_size in (8192, 50, 7):
        model = network()
        options = {"method": method, "max_iterations": 5, "batch_size": batch_size}
        criterion = ReconstructionContractiveLoss(0.3)
        losses.append(fit_full_batch(model, criterion, X, **options).loss)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-9)


@pytest.mark.slow
def test_the_noise_stays_the_same():
    losses = []
    for _ in range(2):
        model = network()
        fit = fit_full_batch(model, DenoisingLoss(0.2), X, max_iterations=40, seed=4)
        losses.append(fit.losses)
    assert losses[0] == losses[1]
    # Losses always decrease, since every line search has the same noise.
    assert all(a >= b for a, b in itertools.pairwise(losses[0]))
    assert losses[0][-1] < 0.5 * losses[0][0]
    another = fit_full_batch(network(), DenoisingLoss(0.2), X, max_iterations=40, seed=5)
    assert another.loss != losses[0][-1]


@pytest.mark.slow
def test_a_float32_model_is_fitted_in_float64():
    wide, narrow = network("float64"), network("float32")
    for target, value in zip(wide.variables, narrow.variables, strict=True):
        target.assign(tf.cast(value.value, tf.float64))
    x = X.astype(np.float32)
    fits = [fit_full_batch(m, DenoisingLoss(None), x.astype(d), max_iterations=30)
            for m, d in ((wide, np.float64), (narrow, np.float32))]  # fmt: skip
    assert fits[1].losses == pytest.approx(fits[0].losses, rel=1e-8)
    assert narrow.dtype_policy.name == "float32"
    assert all(v.dtype == "float32" for v in narrow.variables)
    np.testing.assert_allclose(narrow(x), wide(x), atol=1e-5)


def test_only_what_is_trainable_moves():
    model = network()
    model.layers[0].trainable = False
    before = model.layers[0].get_weights()
    fit_full_batch(model, DenoisingLoss(0.2), X, max_iterations=5)
    for old, new in zip(before, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_a_contractive_encoder_is_part_of_what_is_differentiated():
    strong, weak = network(), network()
    norms = []
    for model, weight in ((strong, 10.0), (weak, 1e-6)):
        criterion = ContractiveLoss(model.layers[0], weight)
        fit_full_batch(model, criterion, X, max_iterations=30)
        norms.append(np.linalg.norm(model.layers[0].get_weights()[0]))
    assert norms[0] < 0.2 * norms[1]


def test_a_callback_sees_every_iteration():
    seen = []
    fit = fit_full_batch(
        network(), DenoisingLoss(0.2), X, max_iterations=7, callback=lambda *a: seen.append(a)
    )
    assert [loss for _, loss in seen] == list(fit.losses)
    assert [number for number, _ in seen] == list(range(1, 8))
    assert not fit.converged


def test_a_fit_is_told_in_a_table_and_a_summary():
    fit = fit_full_batch(network(), DenoisingLoss(0.2), X, max_iterations=3)
    assert fit.summary() == {
        "loss": fit.loss, "converged": False, "iterations": 3, "evaluations": fit.evaluations,
        "message": fit.message,
    }  # fmt: skip
    *table, said = fit.table().splitlines()
    assert len(table) == 4
    assert said.startswith("The fit has not converged in 3 iterations: ")
    assert "losses" not in repr(fit)


def test_one_example_of_one_value():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert fit_full_batch(model, DenoisingLoss(None), np.ones((1, 1))).loss < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"method": "newton"}, ValueError, "one of lbfgs"),
        ({"max_iterations": 0}, ValueError, "`max_iterations`"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"criterion": DenoisingLoss(0.1, walkback=2)}, ValueError, "walkback.* `CriterionModel`"),
        (
            {"criterion": DenoisingLoss(DecreasingNoise(1, 0.1, num_steps=9))},
            ValueError,
            "decreases over",
        ),
        ({"x": np.where(X > 0, np.nan, X)}, ValueError, "`x` must be finite"),
        ({"x": X.astype(int)}, TypeError, "floating"),
        ({"target": X[:3]}, ValueError, "`target` must be"),
        (
            {"criterion": lambda r, x, *_, **__: r(x)[:, 0] * np.inf},
            ValueError,
            "initial loss must be finite",
        ),
        ({"criterion": lambda r, x, *_, **__: x[:, 0]}, ValueError, "no trainable parameter"),
    ],
)
def test_bad_input(arguments, error, match):
    arguments = {"criterion": DenoisingLoss(0.1), "x": X, **arguments}
    with pytest.raises(error, match=match):
        fit_full_batch(network(), **arguments)
