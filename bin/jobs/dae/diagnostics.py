"""Measures and draws the density of the data that an auto-encoder implies."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.jobs.dae import sampling
from bin.jobs.dae.problem import SMALL
from thesis_tf import autoencoders, plotting
from thesis_tf.autoencoders import theory
from thesis_tf.plotting import style

if TYPE_CHECKING:
    from bin.jobs.dae.output import RunOutput
    from bin.jobs.dae.problem import Problem

_MAX_KERNELS = 20_000  # the most training examples for the kernel density
_EXAMINED = 500  # the number of test examples whose Jacobians are computed
_MAX_ROWS = 20_000  # the most rows of all these Jacobians together
_MOST_VALUES = 1024  # the most values of an example for which all directions are computed
_TANGENTS = 50  # the number of directions for larger examples


def report(
    problem: "Problem", estimator: autoencoders.ScoreEstimator, output: "RunOutput"
) -> dict[str, Any]:
    """Writes figures and numbers; returns the numbers.

    Raises:
        ValueError: r isn't finite at test examples, or the chains have diverged.
    """
    found = {"data": problem.splits.name, "sigma": problem.sigma, **_errors(problem, estimator)}
    output.say_numbers(found)
    if not np.isfinite(found["loss_per_sigma2"]):
        raise ValueError(
            "r(x) is not finite at test examples: training has diverged, or the model returns"
            " NaN. Choose a lower --learning_rate."
        )
    title = style.heading(problem.title, fit_doubts(found), width=52)
    found["tangents"] = _tangents(problem, estimator, output, title)
    attractors = None
    if problem.config.far_points:
        attractors = _attractors(problem, estimator, output, title)
        found["attractors"] = attractors.summary()
        found["attractors"]["warnings"] = attractors.warnings()
    _draw_field(problem, estimator, attractors, output, title)
    if sampling.is_image(problem.splits.test.x):
        _draw_reconstructions(problem, estimator, output, title)
    found["warnings"] = doubts(found)
    output.write_json("diagnostics.json", found)
    if problem.config.chains.chains:
        found["samples"] = sampling.sample(problem, estimator, output, fit_doubts(found))
        output.say_numbers(found["samples"])
        found["warnings"] = doubts(found)
    output.write_json("diagnostics.json", found)
    return found


def doubts(found: Mapping[str, Any]) -> list[str]:
    """Returns sentences that say why not to trust the numbers of `report`."""
    said = fit_doubts(found)
    for part in ("tangents", "attractors", "samples"):
        said += found.get(part, {}).get("warnings", [])
    return said


def fit_doubts(found: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if r is no better than the identity, or barely."""
    loss, identity, best = (
        found[f"loss_per_sigma2{of}"] for of in ("", "_of_identity", "_of_kernel_density")
    )
    if loss >= identity:
        return [
            f"r(x) is worse than x: loss / sigma^2 is {loss:.4g}, and {identity:.4g} for x itself."
            " More --units, examples or training may help."
        ]
    if best < identity and identity - loss < (identity - best) / 2:
        return [
            f"The fit is barely better than the identity: loss / sigma^2 is {loss:.4g}, and"
            f" {identity:.4g} for x itself; a kernel density has {best:.4g}."
        ]
    return []


def _errors(problem: "Problem", estimator: autoencoders.ScoreEstimator) -> dict[str, Any]:
    """Returns losses on test examples, and the errors of the scores of r and a kernel density."""
    test, sigma = problem.splits.test.x, problem.sigma
    noisy = problem.noisy(test)
    score = _in_chunks(estimator.score, noisy)

    def loss(score: np.ndarray) -> float:
        error = noisy + sigma**2 * score - test
        return float(np.square(error).sum() / len(test) / sigma**2)

    density = autoencoders.KernelDensity(problem.splits.train.x[:_MAX_KERNELS], sigma)
    best = _in_chunks(density.score, noisy)
    losses = {
        "loss_per_sigma2": loss(score),
        "loss_per_sigma2_of_identity": loss(np.zeros_like(score)),
        "loss_per_sigma2_of_kernel_density": loss(best),
    }
    # A kernel density that is worse than x itself is no reference.
    known = losses["loss_per_sigma2_of_kernel_density"] < losses["loss_per_sigma2_of_identity"]
    error = theory.relative_rmse(score, best, np.ones(len(test))) if known else None
    return {
        **losses,
        "score_error_to_kernel_density": error,
        "values_per_example": problem.size,
    }


def _tangents(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    output: "RunOutput",
    title: str | None,
) -> dict[str, Any]:
    """Draws the spectrum of the symmetric part of dr/dx, and its asymmetry; returns medians."""
    count = max(20, min(_EXAMINED, _MAX_ROWS // problem.size))
    examined = problem.splits.test.x[:count]
    top_k = _TANGENTS if problem.size > _MOST_VALUES else None
    which = f"the {top_k} largest" if top_k else "all"
    output.say(
        f"Computing {which} eigenvalues of the symmetric part of dr/dx at {len(examined)} test"
        " examples ..."
    )
    tangents = estimator.tangent_directions(examined, top_k=top_k)
    autoencoders.draw_spectrum(tangents, output.folder / "spectrum.png", title=title)
    return {**tangents.summary(), "warnings": tangents.warnings()}


def _attractors(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    output: "RunOutput",
    title: str | None,
) -> autoencoders.Attractors:
    output.say("Searching for attractors from far points ...")
    config, x = problem.config, problem.splits.train.x
    attractors = autoencoders.find_attractors(
        estimator,
        x,
        autoencoders.far_points(x, config.far_points, seed=config.hardware.seed),
        max_iterations=2000 if problem.size <= SMALL else 200,
    )
    output.say_numbers(attractors.summary())
    path = output.folder / "attractors.png"
    autoencoders.draw_attractors(attractors, path, title=title)
    return attractors


def _draw_field(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    attractors: autoencoders.Attractors | None,
    output: "RunOutput",
    title: str | None,
) -> None:
    field = autoencoders.score_field(estimator, problem.splits.train.x)
    path = output.folder / "score_field.png"
    autoencoders.draw_score_field(field, path, attractors=attractors, title=title)
    score = (field.reconstruction - field.points) / problem.sigma**2
    output.write_arrays(
        "score_field.npz",
        {"points": field.points, "reconstruction": field.reconstruction, "score": score},
    )


def _draw_reconstructions(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    output: "RunOutput",
    title: str | None,
) -> None:
    clean = problem.splits.test.x
    noisy = problem.noisy(clean)[:12]
    rows = {"clean": clean[:12], "noisy": noisy, "r(noisy)": estimator.reconstruct(noisy)}
    plotting.draw_images(rows, output.folder / "reconstructions.png", title=title)


def _in_chunks(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, rows: int = 4096
) -> np.ndarray:
    parts = [x[i : i + rows] for i in range(0, len(x), rows)]
    return np.concatenate([function(part) for part in parts])
