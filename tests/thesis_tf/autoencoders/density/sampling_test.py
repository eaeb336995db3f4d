import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf.autoencoders import ScoreEstimator, langevin, metropolis_hastings
from thesis_tf.mcmc import Chains, stream_seed
from thesis_tf.mcmc.folders import ChainFolder

SIGMA = 0.3
COVARIANCE = np.array([[1.0, 0.5], [0.5, 0.7]]) + SIGMA**2 * np.eye(2)
PRECISION = np.linalg.inv(COVARIANCE)
START = np.random.default_rng(0).multivariate_normal(np.zeros(2), COVARIANCE, 500)


def gaussian_dae(x):
    return x - SIGMA**2 * tf.linalg.matmul(x, tf.cast(PRECISION, x.dtype))


GAUSSIAN = ScoreEstimator(gaussian_dae, sigma=SIGMA)


def assert_covariance(chains, covariance=COVARIANCE):
    """Checks the covariance by its standard error over independent chains."""
    products = np.einsum("tci,tcj->cij", chains.samples, chains.samples) / len(chains.samples)
    error = products.std(axis=0) / len(products) ** 0.5
    assert (abs(products.mean(axis=0) - covariance) < 4 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_metropolis_hastings_stays_in_a_gaussian(jit_compile):
    chains = metropolis_hastings(GAUSSIAN, START, 200, 1.5, seed=1, jit_compile=jit_compile)
    assert chains.samples.shape == (200, 500, 2)
    assert_covariance(chains)
    assert chains.diagnostics.r_hat.max() < 1.2
    assert chains.acceptance == pytest.approx(chains.diagnostics.acceptance.mean())


@pytest.mark.slow
def test_it_accepts_as_often_as_with_the_density_itself():
    chains = metropolis_hastings(GAUSSIAN, START, 300, 1.5, seed=1, num_points=1)
    normal = tfp.distributions.MultivariateNormalFullCovariance(np.zeros(2), COVARIANCE)
    reference = tfp.mcmc.sample_chain(
        300,
        START,
        kernel=tfp.mcmc.RandomWalkMetropolis(
            normal.log_prob, tfp.mcmc.random_walk_normal_fn(np.float64(1.5))
        ),
        trace_fn=lambda _, results: results.is_accepted,
        seed=(5, 6),
    )
    expected = reference.trace.numpy().mean(axis=0)
    spread = np.hypot(expected.std(), chains.diagnostics.acceptance.std()) / len(START) ** 0.5
    assert chains.acceptance == pytest.approx(expected.mean(), abs=4 * spread)


def test_it_finds_the_gaussian_from_afar():
    chains = metropolis_hastings(
        GAUSSIAN, START + 20, 100, 1.5, seed=1, num_burnin_steps=200, num_steps_between_results=2
    )
    assert chains.samples.shape == (100, 500, 2)
    assert_covariance(chains)


@pytest.mark.parametrize("thin", [1, 7])
def test_every_step_is_counted(thin):
    # If the score is 0, all proposals are accepted, and samples differ by sums of `thin` steps.
    flat = ScoreEstimator(tf.identity, sigma=1.0)
    chains = metropolis_hastings(
        flat, np.zeros((4000, 1)), 12, 0.5, num_steps_between_results=thin - 1, seed=1
    )
    assert chains.acceptance == 1
    assert chains.samples.shape == (12, 4000, 1)
    for number in (0, 11):
        variance = chains.samples[number].var()
        expected = 0.25 * thin * (number + 1)
        assert variance == pytest.approx(expected, rel=4 * (2 / 4000) ** 0.5)


def test_adjusted_langevin_stays_in_a_gaussian():
    chains = langevin(GAUSSIAN, START, 200, 0.6, seed=1)
    assert 0.3 < chains.acceptance < 0.99
    assert_covariance(chains)


@pytest.mark.slow
def test_unadjusted_langevin_has_the_bias_of_its_recurrence():
    # x' = (1 - h p / 2) x + sqrt(h) e has the variance h / (1 - (1 - h p / 2)^2).
    step, variance = 0.8, 1.0
    estimator = ScoreEstimator(lambda x: (1 - 0.01 / variance) * x, sigma=0.1)
    rate = 1 - step / (2 * variance)
    expected = step / (1 - rate**2)
    start = expected**0.5 * np.random.default_rng(0).normal(size=(4000, 1))
    chains = langevin(estimator, start, 20, step, seed=1, adjusted=False)
    assert chains.acceptance == 1
    assert_covariance(chains, np.array([[expected]]))
    assert expected > 1.2 * variance
    burnt_in = langevin(
        estimator, start * 0 + 1, 20, step, seed=1, num_burnin_steps=100, adjusted=False
    )
    assert_covariance(burnt_in, np.array([[expected]]))
    assert_covariance(langevin(estimator, start, 50, step, seed=1, num_burnin_steps=50), np.eye(1))


@pytest.mark.slow
@pytest.mark.parametrize("sample", [metropolis_hastings, langevin])
def test_seeds_and_folders(sample, tmp_path, monkeypatch):
    arguments = (GAUSSIAN, START[:20], 22, 0.7)
    lengths = {"num_burnin_steps": 5, "num_steps_between_results": 1}
    whole = sample(*arguments, **lengths, seed=stream_seed(1, 2))
    same = sample(*arguments, **lengths, seed=stream_seed(1, 2))
    np.testing.assert_array_equal(same.samples, whole.samples)
    other = sample(*arguments, **lengths, seed=stream_seed(1, 3))
    assert (other.samples != whole.samples).any()
    options = {**lengths, "seed": stream_seed(1, 2), "folder": tmp_path}
    written, write = [], ChainFolder.write

    def killed(self, number, arrays):
        if number == 4:
            raise KeyboardInterrupt
        write(self, number, arrays)
        written.append(number)

    monkeypatch.setattr(ChainFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        sample(*arguments, **options)
    assert written == [0, 1, 2, 3]
    monkeypatch.setattr(ChainFolder, "write", write)
    again = sample(*arguments, **options)
    np.testing.assert_array_equal(again.samples, whole.samples)
    assert again.acceptance == whole.acceptance
    with pytest.raises(ValueError, match="holds chains of another seed"):
        sample(*arguments, **{**options, "seed": 4})
    with pytest.raises(ValueError, match="holds chains of another kernel"):
        sample(GAUSSIAN, START[:20], 22, 0.8, **options)
    other = ScoreEstimator(lambda x: 0.5 * x, sigma=SIGMA)
    with pytest.raises(ValueError, match="holds chains of another weights, model, output"):
        sample(other, START[:20], 22, 0.7, **options)


@pytest.mark.slow
def test_images_single_chains_and_float32():
    estimator = ScoreEstimator(lambda x: 0.9 * x, sigma=0.5)
    start = np.zeros((1, 4, 4, 1), np.float32)
    for chains in (
        metropolis_hastings(estimator, start, 6, 0.3),
        langevin(estimator, start, 6, 0.1),
    ):
        assert isinstance(chains, Chains)
        assert chains.samples.shape == (6, 1, 4, 4, 1)
        assert chains.samples.dtype == np.float32
        assert set(chains.diagnostics.summary()) == {"effective_sample_size", "r_hat", "acceptance"}
    assert np.isnan(metropolis_hastings(estimator, start, 2, 0.3).diagnostics.r_hat).all()


@pytest.mark.slow
def test_the_same_call_reads_its_folder(tmp_path):
    arguments = (GAUSSIAN, START[:5], 10, 0.7)
    first = metropolis_hastings(*arguments, seed=3, folder=tmp_path / "a")
    np.testing.assert_array_equal(metropolis_hastings(*arguments, seed=3).samples, first.samples)
    again = metropolis_hastings(*arguments, seed=3, folder=tmp_path / "a")
    np.testing.assert_array_equal(again.samples, first.samples)


def test_chains_that_diverge_and_an_r_that_is_not_finite(tmp_path):
    away = ScoreEstimator(lambda x: 3 * x, sigma=0.1)
    with pytest.raises(ValueError, match="Use a smaller step"):
        langevin(away, START[:5], 1000, 0.5, adjusted=False, folder=tmp_path)
    assert not [path for path in tmp_path.iterdir() if "piece_19" in path.name]
    nothing = ScoreEstimator(lambda x: x * np.nan, sigma=0.1)
    with pytest.raises(ValueError, match=r"r\(x\) must be finite"):
        metropolis_hastings(nothing, START[:5], 10, 0.5)


def test_folders_of_something_else(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(ValueError, match="a new or an empty folder"):
            metropolis_hastings(GAUSSIAN, START[:5], 10, 0.7, folder=folder)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"seed": 1.5}, TypeError, "`seed` must be a non-negative integer"),
        ({"seed": (1, 2)}, TypeError, "`seed` must be a non-negative integer"),
        ({"estimator": gaussian_dae}, TypeError, "a ScoreEstimator"),
        ({"initial_state": START[:0]}, ValueError, "at least 1 point"),
        ({"proposal_stddev": 0.0}, ValueError, "`proposal_stddev`"),
        ({"num_results": 0}, ValueError, "`num_results`"),
        ({"num_burnin_steps": -1}, ValueError, "`num_burnin_steps`"),
        ({"num_points": 0}, ValueError, "`num_points`"),
        ({"rule": "euler"}, ValueError, "`rule`"),
        ({"initial_state": START * np.nan}, ValueError, "`initial_state` must be finite"),
        ({"initial_state": np.ones((2, 2), int)}, TypeError, "`initial_state`"),
        (
            {"estimator": ScoreEstimator(lambda x: x[:, :1], sigma=1.0)},
            ValueError,
            "the shape of x",
        ),
        ({"estimator": ScoreEstimator(gaussian_dae)}, ValueError, "`sigma` must be known"),
    ],
)
def test_bad_input(arguments, error, match):
    given = {
        "estimator": GAUSSIAN,
        "initial_state": START,
        "num_results": 9,
        "proposal_stddev": 1.0,
    }
    with pytest.raises(error, match=match):
        metropolis_hastings(**{**given, "seed": 0, **arguments})
    with pytest.raises(ValueError, match="`step_size`"):
        langevin(GAUSSIAN, START, 5, -1.0)


@pytest.mark.parametrize("sampler", ["metropolis_hastings", "langevin"])
def test_chains_that_enter_where_r_is_nan(sampler):
    def r(x):  # a Gaussian, of which r is unknown beyond 1
        return tf.where(x > 1, tf.constant(np.nan, x.dtype), 0.99 * x)

    estimator, start = ScoreEstimator(r, sigma=0.1), np.zeros((50, 1))
    if sampler == "metropolis_hastings":
        with pytest.raises(ValueError, match=r"r\(x\) at states after result .* must be finite"):
            metropolis_hastings(estimator, start, 200, 1.0)
        return
    chains = langevin(estimator, start, 200, 0.5)  # whose proposals need the score at their end
    assert chains.samples.max() <= 1


@pytest.mark.parametrize("sample", [metropolis_hastings, langevin])
def test_steps_below_the_rounding_of_states(sample):
    flat = ScoreEstimator(lambda x: x, sigma=1.0)
    start = np.full((20, 2), 1e6, np.float32)
    with pytest.raises(ValueError, match="eight roundings of float32"):
        sample(flat, start, 5, 1e-4)
    found = sample(flat, start.astype(float), 5, 1e-4).samples
    assert len(np.unique(found)) == found.size
