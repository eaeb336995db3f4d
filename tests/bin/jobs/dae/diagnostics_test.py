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
    assert numbers["tangents"]["asymmetry"] == pytest.approx(0, abs=1e-6)
    assert numbers["tangents"]["dimension"] == 2
    assert numbers["attractors"]["attractors"] == 1
    assert numbers["attractors"]["spurious_attractors"] == 0
    assert {"score_field.png", "spectrum.png", "attractors.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_a_model_that_diverged_is_an_error(made, tmp_path):
    estimator = autoencoders.ScoreEstimator(lambda x: x * np.nan, sigma=0.5)
    with pytest.raises(ValueError, match=r"r\(x\).* must be finite"):
        diagnostics.report(made(X, sigma=0.5), estimator, RunOutput(tmp_path))


def losses(loss, identity, best):
    names = ("loss_per_sigma2", "loss_per_sigma2_of_identity", "loss_per_sigma2_of_kernel_density")
    return dict(zip(names, (loss, identity, best), strict=True))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (losses(1.0, 2.0, 1.0), []),
        (losses(1.4, 2.0, 1.0), []),
        (losses(1.9, 2.0, 1.0), ["The fit is barely better than the identity"]),
        (losses(2.0, 2.0, 1.0), ["r(x) is worse than x"]),
        (losses(700.0, 784.0, 1100.0), []),  # a kernel density of few examples is no reference
        ({**losses(1.0, 2.0, 1.0), "samples": {"warnings": ["s"]}, "attractors": {}}, ["s"]),
        (
            {**losses(1.0, 2.0, 1.0), "samples": {"warnings": ["s"]},
             "attractors": {"warnings": ["a", "b"]}},
            ["a", "b", "s"],
        ),
    ],
)  # fmt: skip
def test_sentences_on_numbers_that_cannot_be_trusted(found, expected):
    said = diagnostics.doubts(found)
    assert len(said) == len(expected)
    assert all(a.startswith(b) for a, b in zip(said, expected, strict=True))


def test_a_kernel_density_that_is_no_reference(made):
    # Two hundred examples of 100 independent values: every one is alone.
    problem = made(np.random.default_rng(0).normal(size=(200, 100)), sigma=0.3, noise="plain")
    estimator = autoencoders.ScoreEstimator(lambda x: x / 1.09, sigma=0.3)
    numbers = diagnostics._errors(problem, estimator)
    assert numbers["score_error_to_kernel_density"] is None
    assert numbers["loss_per_sigma2"] == pytest.approx(100 / 1.09, rel=0.1)


@pytest.mark.parametrize(
    ("shape", "sheets"), [((2,), ()), ((1,), ()), ((4, 4), ("reconstructions.png",))], ids=str
)
@pytest.mark.parametrize("good", [True, False])
def test_every_picture_says_what_not_to_trust(
    made, tmp_path, said_in_pictures, shape, sheets, good
):
    x = np.random.default_rng(0).normal(size=(300, *shape))
    # The best r, or one that hardly differs from the identity.
    estimator = autoencoders.ScoreEstimator(lambda x: x / (1.25 if good else 0.999), sigma=0.5)
    problem = made(x, sigma=0.5, far_points=20, step=2.0)
    found = diagnostics.report(problem, estimator, RunOutput(tmp_path))
    fit = "r(x) is worse than x: loss / sigma^2 is"
    assert any(sentence.startswith(fit) for sentence in found["warnings"]) != good
    assert json.loads((tmp_path / "diagnostics.json").read_text())["warnings"] == found["warnings"]
    names = {"score_field.png", "spectrum.png", "attractors.png", "samples.png", *sheets}
    assert said_in_pictures.keys() == names
    for name in names:
        assert (fit in said_in_pictures[name]) != good, name
    for sentence in found["samples"]["warnings"]:
        assert sentence in said_in_pictures["samples.png"]
    for sentence in found["attractors"]["warnings"]:
        assert sentence in said_in_pictures["attractors.png"]
