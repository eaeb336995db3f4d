import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf import mcmc
from thesis_tf.autoencoders import Langevin, RandomWalk, ScoreEstimator, langevin

SIGMA = 0.5
# The score of N(0, 1 + sigma^2): r(x) = x - sigma^2 x / (1 + sigma^2).
NORMAL = ScoreEstimator(lambda x: x / (1 + SIGMA**2), sigma=SIGMA)
X = tf.constant(np.random.default_rng(0).normal(size=(6, 2)))


def log_density(x):
    return -tf.reduce_sum(x**2, axis=-1) / (2 * (1 + SIGMA**2))


@pytest.mark.parametrize("kernel", [RandomWalk(NORMAL, 0.3), Langevin(NORMAL, 0.2)])
def test_acceptance_is_that_of_the_density(kernel):
    proposed, results = kernel.one_step(X, kernel.bootstrap_results(X), seed=(0, 1))
    ratio = log_density(proposed) - log_density(X)
    if isinstance(kernel, Langevin):
        ratio += log_proposal(X, proposed, 0.2) - log_proposal(proposed, X, 0.2)
    np.testing.assert_allclose(results.log_acceptance_correction, ratio, atol=1e-12)
    np.testing.assert_array_equal(results.target_log_prob, 0)
    assert not kernel.is_calibrated


def log_proposal(x, given, step_size):
    mean = given + step_size / 2 * NORMAL.score(given)
    return -tf.reduce_sum((x - mean) ** 2, axis=-1) / (2 * step_size)


def test_they_run_in_the_driver_as_by_name():
    kernel = tfp.mcmc.MetropolisHastings(Langevin(NORMAL, 0.2))
    ours = mcmc.sample_chain(kernel, X, 8, seed=3)
    by_name = langevin(NORMAL, X, 8, 0.2, seed=3)
    np.testing.assert_array_equal(ours.samples, by_name.samples)
    assert ours.acceptance == by_name.acceptance


def test_what_tells_estimators_apart():
    values = RandomWalk(NORMAL, 0.3).model_values(X)
    np.testing.assert_allclose(values, NORMAL.score(X)[0])
    assert RandomWalk(NORMAL, 0.3).parameters["proposal_stddev"] == 0.3
    assert Langevin(NORMAL, 0.3, adjusted=False).parameters["adjusted"] is False


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="`proposal_stddev`"):
        RandomWalk(NORMAL, 0.0)
    with pytest.raises(ValueError, match="`step_size`"):
        Langevin(NORMAL, -1.0)
