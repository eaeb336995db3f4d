import json

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from thesis_tf.gsn.finite.counting import (
    CountingResult,
    counting_chain,
    local_corruption,
    parzen_chain,
)
from thesis_tf.gsn.finite.denoising import denoising_chain
from thesis_tf.gsn.finite.markov import occupation_covariance, stationary_distribution

TRUTH = np.array([5, 9, 14, 16, 12, 6, 4, 8, 14, 12]) / 100


def test_local_corruption():
    found = local_corruption(4)
    np.testing.assert_allclose(found[:2], [[1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(found, found[::-1, ::-1])
    np.testing.assert_allclose(local_corruption(3, reach=5), np.full((3, 3), 1 / 3))
    np.testing.assert_array_equal(local_corruption(1), [[1]])


def test_ten_values_by_counting():
    result = counting_chain(TRUTH, local_corruption(10))
    for histogram in (result.training_histogram, result.chain_histogram, result.stationary):
        assert histogram.shape == (10,)
        assert histogram.sum() == pytest.approx(1)
    errors = np.sqrt(TRUTH * (1 - TRUTH) / 5000)
    assert (np.abs(result.training_histogram - TRUTH) < 5 * errors).all()
    off = np.abs(result.chain_histogram - result.stationary)
    assert (off < 5 * result.standard_errors).all()
    assert result.degrees_of_freedom == 9
    assert 1e-4 < result.p_value < 1 - 1e-4
    # Local moves are slow, so errors are larger than those of independent draws.
    assert (result.standard_errors > errors).all()
    assert (result.standard_errors / errors).max() > 3
    np.testing.assert_allclose(result.transition, local_corruption(10) @ result.reconstruction)
    np.testing.assert_allclose(
        result.standard_errors**2, np.diag(occupation_covariance(result.transition, 5000))
    )


def test_more_examples_learn_the_truth_better():
    corruption = local_corruption(10)
    far = [
        np.mean(
            [
                np.abs(
                    counting_chain(
                        TRUTH, corruption, num_examples=count, num_results=1, seed=s
                    ).stationary
                    - TRUTH
                ).sum()
                for s in range(8)
            ]
        )
        for count in (500, 5000, 50_000)
    ]
    # Errors decrease with the square root of the number of examples.
    assert 2 < far[0] / far[1] < 5
    assert 2 < far[1] / far[2] < 5


@pytest.mark.slow
def test_the_statistic_is_chi_square():
    truth = TRUTH[:4] / TRUTH[:4].sum()
    statistics = np.array(
        [
            counting_chain(truth, local_corruption(4), num_examples=1000, num_results=400, seed=s)
            for s in range(200)
        ]
    )
    p_values = [result.p_value for result in statistics]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3
    # The standard errors are those of the histogram.
    scores = [(r.chain_histogram - r.stationary) / r.standard_errors for r in statistics]
    spread = np.std(scores, axis=0)
    # The standard deviation of 200 draws has a relative error of 1 / 20.
    np.testing.assert_allclose(spread, 1, atol=5 / 20)


def test_values_that_no_example_has():
    truth = np.array([0.3, 0.4, 0.3, 0, 0])
    result = counting_chain(truth, local_corruption(5), num_examples=300, num_results=500)
    for histogram in (result.chain_histogram, result.stationary, result.standard_errors):
        np.testing.assert_array_equal(histogram[3:], 0)
    assert result.degrees_of_freedom == 2
    result = counting_chain([1.0], [[1.0]], num_examples=3, num_results=4)
    assert (result.statistic, result.degrees_of_freedom) == (0, 0)


def test_corruption_to_other_values():
    """Three values with two noisy ones: even or odd."""
    corruption = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]])
    result = counting_chain(
        [0.2, 0.5, 0.3], corruption, num_examples=2000, num_results=2000, seed=1
    )
    assert result.reconstruction.shape == (2, 3)
    exact = denoising_chain(result.training_histogram, corruption).transition
    np.testing.assert_allclose(result.transition, exact, atol=0.1)
    assert (np.abs(result.chain_histogram - result.stationary) < 5 * result.standard_errors).all()


def test_seeds():
    one, same, other = (
        counting_chain(TRUTH, local_corruption(10), num_examples=100, num_results=100, seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.chain_histogram, same.chain_histogram)
    assert (one.chain_histogram != other.chain_histogram).any()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0.5, 0.4], np.eye(2)), "`data` must be of sum 1"),
        (([0.5, 0.5], np.eye(3)), r"`corruption` must be of shape \(2, any\)"),
        (([0.5, 0.5], np.eye(2)), "2 classes"),
        (([1.0], [[1.0]], {"num_examples": 0}), "`num_examples` must be a positive integer"),
        (([1.0], [[1.0]], {"num_results": -1}), "`num_results` must be a positive integer"),
    ],
)
def test_bad_counting(arguments, match):
    with pytest.raises(ValueError, match=match):
        counting_chain(*arguments[:2], **dict(*arguments[2:]))


@pytest.mark.parametrize(
    ("seed", "error"), [(np.random.default_rng(0), TypeError), (None, TypeError), (-1, ValueError)]
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="`seed` must be a non-negative integer"):
        counting_chain(TRUTH, local_corruption(10), seed=seed)
    with pytest.raises(error, match="`seed` must be a non-negative integer"):
        parzen_chain(np.zeros((3, 2)), 1, 0.1, 2, seed=seed)


def test_bad_local_corruption():
    with pytest.raises(ValueError, match="`num_states` must be a positive integer"):
        local_corruption(0)
    with pytest.raises(TypeError, match="`reach` must be a positive integer"):
        local_corruption(3, reach=0.5)


def exact_examples(points, corruption_scale, kernel_scale):
    """Returns the transition matrix between examples, in one dimension, by quadrature."""
    wide = np.hypot(corruption_scale, kernel_scale)
    grid = np.linspace(points.min() - 9 * wide, points.max() + 9 * wide, 20_001)
    near = scipy.stats.norm.pdf(grid, points[:, np.newaxis], corruption_scale)
    chosen = near / near.sum(axis=0)
    arrives = scipy.stats.norm.pdf(grid, points[:, np.newaxis], wide)
    matrix = scipy.integrate.trapezoid(arrives[:, np.newaxis] * chosen, grid, axis=-1)
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kernel_scale", [0, 0.05, 0.3])
def test_parzen_chains_choose_examples_as_often_as_they_should(kernel_scale):
    # Kernels of .3 overlap, but at these distances the nearest example is certain to 5 sigma.
    points, corruption_scale = np.array([0.0, 3.2, 7.0, 10.5]), 1.6
    exact = exact_examples(points, corruption_scale, kernel_scale)
    pi = stationary_distribution(exact)
    steps, chains = 4000, 10
    samples = parzen_chain(
        points[:, np.newaxis], corruption_scale, kernel_scale, steps, num_chains=chains
    )
    assert samples.shape == (steps, chains, 1)
    which = np.abs(samples - points).argmin(axis=-1)
    probability = np.bincount(which.ravel()) / which.size
    errors = np.sqrt(np.diag(occupation_covariance(exact, steps)) / chains)
    assert (np.abs(probability - pi) < 5 * errors).all()
    if kernel_scale == 0:
        np.testing.assert_allclose(pi, 0.25, atol=1e-9)
    # Samples differ from the example by the noise of the kernel.
    noise = samples[..., 0] - points[which]
    assert noise.std() == pytest.approx(kernel_scale, rel=5 / np.sqrt(2 * noise.size))


def test_one_step_from_each_example():
    points, count = np.array([0.0, 1.0, 2.5, 6.0]), 300_000
    exact = exact_examples(points, 1.0, 0)
    for x, row in zip(points, exact, strict=True):
        samples = parzen_chain(
            points[:, np.newaxis], 1.0, 0, 1, num_chains=count, initial_state=np.full((count, 1), x)
        )
        probability = (samples[0] == points).mean(axis=0)
        assert (np.abs(probability - row) <= 5 * np.sqrt(row * (1 - row) / count) + 1e-5).all()


def test_wide_kernels_shift_weight_between_examples():
    points = np.array([0.0, 1.0, 2.0, 6.0])
    settled = [
        stationary_distribution(exact_examples(points, 1.0, scale)) for scale in (0, 0.25, 1.0)
    ]
    far = [np.abs(pi - 0.25).sum() for pi in settled]
    assert far[0] < 1e-9 < 1e-3 < far[1] < far[2]
    start = np.random.default_rng(0).choice(points, size=(1000, 1), p=settled[2])
    samples = parzen_chain(
        points[:, np.newaxis], 1.0, 1.0, 200, num_chains=1000, initial_state=start
    )
    means = samples.mean(axis=(0, 2))
    error = means.std() / np.sqrt(1000)
    assert abs(means.mean() - settled[2] @ points) < 5 * error
    assert abs(means.mean() - points.mean()) > 5 * error


def test_a_single_example():
    samples = parzen_chain(np.array([[1.0, -2.0]]), 0.5, 0.1, 2000, num_chains=5)
    np.testing.assert_allclose(samples.mean(axis=(0, 1)), [1, -2], atol=5 * 0.1 / 100)
    np.testing.assert_allclose(samples.std(axis=(0, 1)), 0.1, rtol=5 / np.sqrt(20_000))
    together = np.corrcoef(samples[:-1, :, 0].ravel(), samples[1:, :, 0].ravel())[0, 1]
    assert abs(together) < 5 / np.sqrt(9995)


def test_parzen_chains_stay_on_a_manifold():
    """The data are a curve in ten dimensions."""
    t = np.random.default_rng(0).uniform(-1, 1, 800)
    curve = np.sin(np.arange(1, 11) * t[:, np.newaxis])
    samples = parzen_chain(curve, 0.2, 0.02, 100, num_chains=50)
    assert samples.shape == (100, 50, 10)
    nearest = np.sqrt(((samples[-1][:, np.newaxis] - curve) ** 2).sum(axis=-1)).min(axis=1)
    # |kernel noise| is .02 sqrt(10), plus 7 standard deviations of a chi distribution.
    assert nearest.max() < 0.02 * (np.sqrt(10) + 5)


def test_chains_come_back_from_far_away():
    examples = np.random.default_rng(0).normal(size=(50, 3))
    start = np.full((4, 3), 1e6)
    samples = parzen_chain(examples, 0.1, 0.05, 3, num_chains=4, initial_state=start)
    assert np.abs(samples).max() < 5
    # The result doesn't depend on the position of the data.
    moved = parzen_chain(examples + 1e3, 0.1, 0.05, 3, num_chains=4, initial_state=start + 1e3)
    np.testing.assert_allclose(moved, samples + 1e3, atol=1e-6)


def test_parzen_seeds_and_dtypes():
    examples = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    one, same, other = (
        parzen_chain(examples, 0.5, 0.1, 5, num_chains=3, seed=seed) for seed in (1, 1, 2)
    )
    assert one.dtype == np.float64
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"examples": np.zeros((2, 2), int)}, TypeError, r"floating dtype\. .* int64\. Convert it"),
        ({"examples": np.zeros(3)}, ValueError, r"`examples` must be of shape \(n, d\)"),
        ({"examples": np.zeros((0, 2))}, ValueError, r"shape \(0, 2\)"),
        ({"examples": np.full((2, 2), np.inf)}, ValueError, "`examples` must be finite"),
        ({"corruption_scale": 0}, ValueError, "`corruption_scale` must be a positive number"),
        ({"kernel_scale": -1}, ValueError, "`kernel_scale`, if not 0, must be a positive number"),
        ({"num_results": 0}, ValueError, "`num_results` must be a positive integer"),
        ({"num_chains": 1.5}, TypeError, "`num_chains` must be a positive integer"),
        (
            {"initial_state": np.zeros((2, 2))},
            ValueError,
            r"`initial_state` must be of shape \(1, 2\)",
        ),
        ({"initial_state": np.full((1, 2), np.nan)}, ValueError, "`initial_state` must be finite"),
    ],
)
def test_bad_parzen(changed, error, match):
    arguments = {
        "examples": np.zeros((3, 2)), "corruption_scale": 1, "kernel_scale": 0.1, "num_results": 2
    }  # fmt: skip
    with pytest.raises(error, match=match):
        parzen_chain(**{**arguments, **changed})


def test_a_result_in_short():
    half, quarter = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    found = CountingResult(half, quarter, half, quarter, half / 10, np.eye(2), np.eye(2), 0.0, 1)
    assert found.table() == (
        "state  truth  training  chain  stationary  standard error\n"
        "0        0.5      0.25    0.5        0.25            0.05\n"
        "1        0.5      0.75    0.5        0.75            0.05\n"
        "Chain against its limit: chi-square 0, 1 degrees of freedom, p = 1."
    )
    assert repr(found) == (
        "CountingResult(states=2, statistic=0, degrees_of_freedom=1, p_value=1,"
        " distance_of_stationary_to_truth=0.5)"
    )
    assert json.loads(json.dumps(found.summary())) == {
        "states": 2,
        "statistic": 0.0,
        "degrees_of_freedom": 1,
        "p_value": 1.0,
        "distance_of_stationary_to_truth": 0.5,
    }
    assert json.dumps(counting_chain(TRUTH, local_corruption(10), num_results=50).summary())
