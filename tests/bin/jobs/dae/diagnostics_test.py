import json

import numpy as np
import pytest

from bin.jobs.dae import diagnostics
from bin.jobs.dae.output import RunOutput
from thesis_tf import autoencoders

X = np.random.default_rng(0).normal(size=(300, 2))


@pytest.mark.slow
def test_the_best_auto_encoder_of_a_gaussian(made, tmp_path):
    found = made(X, sigma=0.5, far_points=30)
    estimator = autoencoders.ScoreEstimator(lambda x: x / 1.25, sigma=0.5)
    numbers = diagnostics.report(found, estimator, RunOutput(tmp_path))
    assert json.loads((tmp_path / "diagnostics.json").read_text()) == numbers
    # E|r(x~) - x|^2 / sigma^2 is d / (1 + sigma^2) for the best r, and d for the identity.
    assert numbers["loss_per_sigma2"] == pytest.approx(2 / 1.25, rel=0.3)
    assert numbers["loss_per_sigma2"] < numbers["loss_per_sigma2_of_identity"]
    assert numbers["asymmetry"] == pytest.approx(0, abs=1e-6)
    assert numbers["tangent_dimension"] == 2
    assert numbers["attractors"]["attractors"] == 1
    assert numbers["attractors"]["spurious_attractors"] == 0
    assert {"score_field.png", "spectrum.png", "attractors.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_a_model_that_diverged_is_an_error(made, tmp_path):
    estimator = autoencoders.ScoreEstimator(lambda x: x * np.nan, sigma=0.5)
    with pytest.raises(ValueError, match=r"r\(x\) is not finite"):
        diagnostics.report(made(X, sigma=0.5), estimator, RunOutput(tmp_path))
