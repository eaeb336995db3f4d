"""Numbers that set how functions work: what isn't such a number is refused by name."""

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import autoencoders, corruption, datasets, gsn, hardware, hessian, issgd, mcmc
from thesis_tf.autoencoders import theory
from thesis_tf.errors import ArgumentError
from thesis_tf.gsn import finite

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
CHAIN, DATA = RNG.dirichlet(np.ones(4), size=4), RNG.dirichlet(np.ones(4))
CORRUPTION = RNG.dirichlet(np.ones(5), size=4)
GRID = np.linspace(-1.5, 1.5, 101)
P = np.exp(-(GRID**2))
NORMS = RNG.uniform(0.1, 2, 40)
MATRIX = RNG.normal(size=(8, 8))
ESTIMATOR = autoencoders.ScoreEstimator(lambda x: 0.7 * x, sigma=0.5)
KERNEL = mcmc.FunctionKernel(lambda x, seed: x)


class Dense:
    """A symmetric matrix as an operator."""

    shape, dtype, products = (8, 8), np.dtype(np.float64), 0

    def __matmul__(self, vectors):
        product = (MATRIX + MATRIX.T) @ np.asarray(vectors)
        return tf.constant(product) if tf.is_tensor(vectors) else product


def gaussian(x):
    return np.exp(-(x**2).sum(axis=1))


def attractors(**options):
    return autoencoders.find_attractors(ESTIMATOR, X, X[:4], max_iterations=50, **options)


def eigenvalues(**options):
    return hessian.extreme_eigenpairs(
        Dense(), verbose=0, **{"smallest": 2, "largest": 2, **options}
    )


NO_NUMBER = [np.nan, None, "many"]
FINITE = [*NO_NUMBER, np.inf]
AT_LEAST_0 = [np.nan, -1, -1e-30]
POSITIVE = [*FINITE, 0, -1, -1e-30]
PROBABILITY = [*POSITIVE, 1.5]
NATURAL = [*FINITE, -1, 1.5]
COUNT = [*NATURAL, 0, 2.0]
SEED = [*FINITE, -1, 1.0]

# {setting: (call, what is refused)}.
SETTINGS = {
    "counting_chain num_examples": (
        lambda v: finite.counting_chain(DATA, CORRUPTION, num_examples=v, num_results=2), COUNT
    ),
    "counting_chain seed": (lambda v: finite.counting_chain(DATA, CORRUPTION, seed=v), SEED),
    "local_corruption num_states": (finite.local_corruption, COUNT),
    "local_corruption reach": (lambda v: finite.local_corruption(4, reach=v), COUNT),
    "parzen_chain corruption_scale": (lambda v: finite.parzen_chain(X, v, 0.1, 2), POSITIVE),
    "parzen_chain kernel_scale": (lambda v: finite.parzen_chain(X, 0.1, v, 2), [*FINITE, -1]),
    "walkback_chain tol": (
        lambda v: finite.walkback_chain(DATA, CORRUPTION, [0.5, 0.5], tol=v), POSITIVE
    ),
    "geometric_probabilities": (finite.geometric_probabilities, PROBABILITY),
    "occupation_covariance": (lambda v: finite.occupation_covariance(CHAIN, v), COUNT),
    "rcae_1d sigma": (lambda v: theory.rcae_1d(P, GRID, v), POSITIVE),
    "dae_1d sigma": (lambda v: theory.dae_1d(P, GRID, v), POSITIVE),
    "ball_volume dimension": (lambda v: theory.ball_volume(v, 1.0), COUNT),
    "ball_volume radius": (lambda v: theory.ball_volume(2, v), POSITIVE),
    "ball_integral radius": (lambda v: theory.ball_integral([2], v), POSITIVE),
    "ball_quadrature dimension": (lambda v: theory.ball_quadrature(v, 1.0), COUNT),
    "ball_quadrature radius": (lambda v: theory.ball_quadrature(2, v), POSITIVE),
    "ball_quadrature order": (lambda v: theory.ball_quadrature(2, 1.0, order=v), COUNT),
    "local_moments delta": (lambda v: theory.local_moments(gaussian, X[0], v), POSITIVE),
    "asymptotic_moments density": (
        lambda v: theory.asymptotic_moments(v, X[0], np.eye(3), X[0], 0.1), POSITIVE
    ),
    "local_mean delta": (lambda v: theory.local_mean(ESTIMATOR, X, v), POSITIVE),
    "gradient_variance true_gradient_squared": (
        lambda v: issgd.gradient_variance(NORMS, NORMS, true_gradient_squared=v), [*FINITE, -1]
    ),
    "compare_draws true_gradient_squared": (
        lambda v: issgd.compare_draws(NORMS, NORMS, true_gradient_squared=v), [*FINITE, -1]
    ),
    "compare_draws population": (
        lambda v: issgd.compare_draws(NORMS, NORMS, population=v), [0, -1, 39, np.nan]
    ),
    "Additive": (issgd.Additive, [np.nan, np.inf, -1]),
    "RelativeToMean": (issgd.RelativeToMean, [np.nan, np.inf, -1]),
    "UniformMixture": (issgd.UniformMixture, [np.nan, np.inf, -1, 1]),
    "TargetEntropy": (issgd.TargetEntropy, [np.nan, np.inf, -1, 0, 1]),
    "Proposal num_examples": (issgd.Proposal, COUNT),
    "Proposal staleness": (lambda v: issgd.Proposal(3, staleness=v), AT_LEAST_0),
    "Proposal min_usable": (lambda v: issgd.Proposal(3, min_usable=v), [*AT_LEAST_0, 1.5]),
    "Proposal seed": (lambda v: issgd.Proposal(3, seed=v), SEED),
    "Proposal.sample n": (lambda v: issgd.Proposal(3).sample(v), COUNT),
    "Proposal.sample step": (lambda v: issgd.Proposal(3).sample(2, step=v), [np.nan, -1, 1.5]),
    "Proposal.advance version": (lambda v: issgd.Proposal(3).advance(version=v), [np.nan, np.inf]),
    "Proposal.advance time": (lambda v: issgd.Proposal(3).advance(time=v), [np.nan, np.inf]),
    "sample_quality threshold": (
        # None depends on the number of classes.
        lambda v: gsn.sample_quality(CHAIN, threshold=v), [v for v in PROBABILITY if v is not None]
    ),
    "sample_quality num_steps_between_results": (
        lambda v: gsn.sample_quality(CHAIN, num_steps_between_results=v), NATURAL
    ),
    "nearest_neighbor_test num_neighbors": (
        lambda v: autoencoders.nearest_neighbor_test(X, X, num_neighbors=v), [*COUNT, 2]
    ),
    "fixed_subset fraction": (lambda v: hessian.fixed_subset(X, X, fraction=v), PROBABILITY),
    "fixed_subset seed": (lambda v: hessian.fixed_subset(X, X, seed=v), SEED),
    "spiral count": (datasets.spiral, COUNT),
    "spiral end": (lambda v: datasets.spiral(2, end=v), [np.nan, 3, -1]),
    "manifold10d components": (lambda v: datasets.manifold10d(components=v), COUNT),
    "manifold10d ratio": (lambda v: datasets.manifold10d(ratio=v), POSITIVE),
    "manifold10d dimensions": (lambda v: datasets.manifold10d(dimensions=v), COUNT),
    "Gaussian": (corruption.Gaussian, POSITIVE),
    "SaltAndPepper": (corruption.SaltAndPepper, PROBABILITY),
    "SaltAndPepper low": (lambda v: corruption.SaltAndPepper(0.5, low=v), [np.nan, np.inf]),
    "Masking": (corruption.Masking, PROBABILITY),
    "Block height": (lambda v: corruption.Block(v, 1), COUNT),
    "KernelDensity sigma": (lambda v: autoencoders.KernelDensity(X, v), POSITIVE),
    "ScoreEstimator sigma": (
        lambda v: autoencoders.ScoreEstimator(np.abs, sigma=v), [np.nan, "many", np.inf, 0, -1]
    ),
    "energy_difference num_points": (
        lambda v: ESTIMATOR.energy_difference(X[:1], X[1:2], num_points=v), COUNT
    ),
    "tangent_directions threshold": (
        lambda v: ESTIMATOR.tangent_directions(X[:1], threshold=v), FINITE
    ),
    "far_points count": (lambda v: autoencoders.far_points(X, v), COUNT),
    "far_points margin": (lambda v: autoencoders.far_points(X, 2, margin=v), [*FINITE, -1]),
    "find_attractors tol": (lambda v: attractors(tol=v), AT_LEAST_0),
    "find_attractors merge_distance": (lambda v: attractors(merge_distance=v), AT_LEAST_0),
    "sample_chain num_results": (lambda v: mcmc.sample_chain(KERNEL, X, v, verbose=0), COUNT),
    "sample_chain num_burnin_steps": (
        lambda v: mcmc.sample_chain(KERNEL, X, 2, num_burnin_steps=v, verbose=0), NATURAL
    ),
    "sample_chain seed": (lambda v: mcmc.sample_chain(KERNEL, X, 2, seed=v, verbose=0), SEED),
    "stream_seed": (lambda v: mcmc.stream_seed(0, v), [*SEED, 1 << 32]),
    "extreme_eigenpairs largest": (lambda v: eigenvalues(largest=v), NATURAL),
    "extreme_eigenpairs tol": (lambda v: eigenvalues(tol=v), [np.nan, np.inf, 0, -1, 1]),
    "spectral_density num_steps": (
        lambda v: hessian.spectral_density(Dense(), num_steps=v, verbose=0), COUNT
    ),
    "spectral_density width": (
        lambda v: hessian.spectral_density(Dense(), width=v, verbose=0), [np.nan, np.inf, 0, -1]
    ),
    "trace num_vectors": (lambda v: hessian.trace(Dense(), num_vectors=v, verbose=0), [*COUNT, 1]),
    "parzen_log_likelihood sigmas": (
        lambda v: gsn.parzen_log_likelihood(X, X[:3] + 1, X[3:6] + 1, sigmas=v, verbose=0),
        [np.nan, np.inf, 0, -1, []],
    ),
    "Normal scale": (gsn.Normal, [np.nan, np.inf, 0, -1]),
    "NormalMixture": (gsn.NormalMixture, [*COUNT, 1]),
    "Walkback": (gsn.Walkback, COUNT),
    "Hardware seed": (lambda v: hardware.Hardware(seed=v), SEED),
    "Hardware num_virtual_devices": (
        lambda v: hardware.Hardware(num_virtual_devices=v), [*FINITE, -1, 1.5]
    ),
}  # fmt: skip
CELLS = [(name, value) for name, (_, wrong) in SETTINGS.items() for value in wrong]


@pytest.mark.parametrize(("name", "value"), CELLS, ids=[f"{n}={v!r}" for n, v in CELLS])
def test_what_is_no_such_number_is_refused(name, value):
    with pytest.raises(ArgumentError, match=r"must be .* Received: "):
        SETTINGS[name][0](value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int8, lambda n: np.array(n, ">i4")])
def test_integers_of_numpy(kind):
    """Unsigned integers don't wrap around in what is computed from them."""
    expected = np.linalg.eigvalsh(MATRIX + MATRIX.T)[[0, 1, 5, 6, 7]]
    if not isinstance(kind(3), np.ndarray):
        found = eigenvalues(largest=kind(3), smallest=kind(2), tol=1e-9).values
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    probabilities = np.eye(3)[RNG.integers(0, 3, (9, 4))]
    found, same = (
        gsn.sample_quality(probabilities, num_steps_between_results=n).changes_per_100_steps
        for n in (kind(127), 127)
    )
    assert found == same
    assert len(datasets.spiral(kind(5), seed=kind(3))) == 5
    np.testing.assert_array_equal(datasets.spiral(5, seed=kind(3)), datasets.spiral(5, seed=3))
    assert theory.ball_volume(kind(3), kind(2)) == theory.ball_volume(3, 2)


def test_one_more_than_the_largest_byte():
    probabilities = np.eye(3)[RNG.integers(0, 3, (9, 4))]
    found, same = (
        gsn.sample_quality(probabilities, num_steps_between_results=n).changes_per_100_steps
        for n in (np.uint8(255), 255)
    )
    assert found == same
