import keras
import numpy as np
import pytest

from bin.jobs.dae import problem
from thesis_tf import autoencoders

X = np.random.default_rng(0).normal(size=(60, 3)) * [1.0, 2.0, 0.5]


def test_noise_follows_the_data(made):
    found = made(X)
    train = found.splits.train.x
    assert found.sigma == pytest.approx(np.sqrt(train.var(axis=0).mean()) / 2)
    assert found.max_sigma == pytest.approx(np.ptp(train, axis=0).max() / 2)
    assert (found.size, found.method, found.num_steps) == (3, "lbfgs", 0)
    given = made(X, sigma=0.1, max_sigma=0.7)
    assert (given.sigma, given.max_sigma) == (0.1, 0.7)


def test_large_examples_are_fitted_by_minibatches(made):
    found = made(np.random.default_rng(0).normal(size=(60, 65)))
    assert found.method == "minibatch"
    assert found.num_steps == 2 * (len(found.splits.train) // 8)


def test_noise_stays_the_same_without_a_generator(made):
    found = made(X)
    np.testing.assert_array_equal(found.noisy(X), found.noisy(X))
    other = found.noisy(X, np.random.default_rng(9))
    assert (other != found.noisy(X)).all()
    assert (other - X).std() == pytest.approx(found.sigma, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "kind", "noise"),
    [
        ({}, autoencoders.DenoisingLoss, autoencoders.SampledNoise),
        ({"noise": "plain"}, autoencoders.DenoisingLoss, autoencoders.NoiseSchedule),
        (
            {"noise": "decreasing", "fit": "minibatch"},
            autoencoders.DenoisingLoss,
            autoencoders.DecreasingNoise,
        ),
        ({"criterion": "rcae"}, autoencoders.ReconstructionContractiveLoss, None),
    ],
)
def test_criteria(settings, kind, noise, made):
    criterion = made(X, **settings).criterion()
    assert type(criterion) is kind
    if noise is not None:
        assert type(criterion.corruption) is noise


def test_decreasing_noise_ends_after_two_thirds_of_training(made):
    found = made(X, noise="decreasing", fit="minibatch")
    assert found.criterion().corruption.num_steps == 2 * found.num_steps // 3


@pytest.mark.parametrize(
    ("x", "settings", "match"),
    [
        (np.ones((20, 2)), {}, r"must differ\. All are equal"),
        (X, {"sigma": 100.0}, "must be above sigma, 100"),
    ],
)
def test_data_that_can_not_be_used(x, settings, match, made):
    with pytest.raises(ValueError, match=match):
        made(x, **settings)


def test_a_model_of_flat_examples_is_reshaped(made, tmp_path):
    layers = [keras.Input((4,)), keras.layers.Dense(4)]
    keras.Sequential(layers).save(tmp_path / "r.keras")
    x = np.random.default_rng(0).uniform(size=(40, 2, 2))
    found = made(x, reconstruction=str(tmp_path / "r.keras"))
    shape = found.splits.train.x.shape[1:]
    assert found.build_model().output_shape == (None, *shape)
    with pytest.raises(ValueError, match=r"inputs of \(4,\) and outputs of \(4,\)"):
        problem._fitting(keras.saving.load_model(tmp_path / "r.keras"), (5,))
