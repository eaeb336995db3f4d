import numpy as np
import pytest

from bin.jobs import spread
from bin.jobs.dae import sampling
from bin.jobs.dae.output import RunOutput
from thesis_tf import autoencoders

X = np.random.default_rng(0).normal(size=(200, 2))


@pytest.mark.parametrize("sampler", ["metropolis_hastings", "langevin", "unadjusted_langevin"])
def test_samples_of_a_gaussian(sampler, made, tmp_path):
    found = made(X, sampler=sampler, sigma=0.5)
    # The best auto-encoder of N(0, I).
    estimator = autoencoders.ScoreEstimator(lambda x: x / 1.25, sigma=0.5)
    summary = sampling.sample(found, estimator, RunOutput(tmp_path))
    assert summary["samples_per_chain"] == 20
    assert {"effective_sample_size", "r_hat", "two_sample_accuracy"} <= summary.keys()
    with np.load(tmp_path / "samples.npz") as file:
        assert file["samples"].shape == file["initial_state"].shape == (12, 2)
    assert (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 2), False), ((5, 4, 4), True), ((5, 4, 4, 3), True), ((5, 4, 4, 2), False)],
)
def test_images_have_two_axes_and_perhaps_channels(shape, expected):
    assert sampling.is_image(np.zeros(shape)) is expected


def test_chains_that_cannot_move(made, tmp_path):
    # At this sigma, examples are alone, and chains stay where they begin.
    found = made(X, sigma=1e-6, noise="plain")
    estimator = autoencoders.ScoreEstimator(
        autoencoders.KernelDensity(found.splits.train.x, 1e-6).reconstruct, sigma=1e-6
    )
    summary = sampling.sample(found, estimator, RunOutput(tmp_path))
    assert summary["r_hat"] > 1e6
    assert any("have not mixed: R-hat" in sentence for sentence in summary["warnings"])


@pytest.mark.parametrize(
    ("scale", "warns"), [(1.0, False), (0.5, False), (0.1, True), (0.0, True), (9.0, True)]
)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_spread_of_samples(scale, offset, warns):
    data = (offset + X).astype(np.float32)
    samples = (offset + scale * np.random.default_rng(1).normal(size=(500, 2))).astype(np.float32)
    found = spread.ratio(samples, data)
    assert found == pytest.approx(scale, rel=0.15, abs=1e-3)
    assert bool(spread.doubts(found)) == warns
