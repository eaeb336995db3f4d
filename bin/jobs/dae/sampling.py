"""Samples from the density that an auto-encoder implies, and compares them with the data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bin.jobs import spread
from thesis_tf import autoencoders, mcmc, plotting
from thesis_tf.plotting import style

if TYPE_CHECKING:
    from bin.jobs.dae.output import RunOutput
    from bin.jobs.dae.problem import Problem

_KEPT = 20  # the number of kept states per chain


def sample(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    output: "RunOutput",
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs the chains, draws their last states, and compares these with noisy test examples.

    Args:
        problem: the problem.
        estimator: the score estimator of the fitted auto-encoder.
        output: where to write samples.npz, samples.png and the folder chains.
        doubts: sentences on the fit, for the picture.

    Returns:
        {"samples_per_chain", the diagnostics, "spread_of_samples", "two_sample_accuracy",
        "two_sample_standard_error", "warnings"}.
    """
    noisy = problem.noisy(problem.splits.test.x)
    initial_state = _initial_state(problem)
    wanted = problem.config.chains
    output.say(f"Running {wanted.chains:,} chains of {wanted.chain_steps:,} steps ...")
    chains = _chains(problem, estimator, initial_state, output)
    last = chains.samples[-1]
    output.write_arrays("samples.npz", {"samples": last, "initial_state": initial_state})
    found: dict[str, Any] = {
        "samples_per_chain": len(chains.samples),
        **chains.diagnostics.summary(),
    }
    found["spread_of_samples"] = spread.ratio(last, noisy)
    found["warnings"] = [*chains.warnings(), *spread.doubts(found["spread_of_samples"])]
    if min(len(last), len(noisy)) > 5:
        test = autoencoders.nearest_neighbor_test(last, noisy)
        found["two_sample_accuracy"] = test.accuracy
        found["two_sample_standard_error"] = test.standard_error
        found["warnings"] += test.warnings()
    splits = problem.splits
    # Training examples, too, so that the panels can have as many points as there are chains.
    data = np.concatenate([splits.test.x, splits.validation.x, splits.train.x])[: len(last)]
    shown = {"data": data, "data with noise": problem.noisy(data), "samples": last}
    said = [*doubts, *found["warnings"]]
    path = output.folder / "samples.png"
    if is_image(last):
        few = {name: images[:36] for name, images in shown.items()}
        plotting.draw_images(few, path, title=style.heading(problem.title, said))
    else:
        autoencoders.draw_points(shown, path, title=problem.title, caption=" ".join(said) or None)
    return found


def is_image(x: np.ndarray) -> bool:
    """Returns whether examples (n, ...) are images: (n, h, w), or (n, h, w, 1 or 3)."""
    return x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (1, 3))


def _initial_state(problem: "Problem") -> np.ndarray:
    config, x = problem.config, problem.splits.train.x
    if config.chains_from == "box":
        return autoencoders.far_points(
            x, config.chains.chains, margin=0.0, seed=config.hardware.seed + 1
        )
    rng = np.random.default_rng([config.hardware.seed, 3])
    return problem.noisy(x[rng.integers(len(x), size=config.chains.chains)], rng)


def _chains(
    problem: "Problem",
    estimator: autoencoders.ScoreEstimator,
    initial_state: np.ndarray,
    output: "RunOutput",
) -> mcmc.Chains:
    config, d = problem.config, problem.size
    # Keep 20 states of each chain, or all if there are fewer.
    thin = max(1, config.chains.chain_steps // _KEPT)
    num_results = config.chains.chain_steps // thin
    settings: dict[str, Any] = {
        "num_steps_between_results": thin - 1,
        "seed": mcmc.stream_seed(config.hardware.seed, 4),
        "num_points": config.num_points,
        "verbose": "auto" if output.verbose else 0,
        "folder": output.folder / "chains",
    }
    if config.sampler == "metropolis_hastings":
        stddev = (config.step or 2.4 / d**0.5) * problem.sigma
        return autoencoders.metropolis_hastings(
            estimator, initial_state, num_results, stddev, **settings
        )
    stddev = (config.step or 1.6 / d ** (1 / 6)) * problem.sigma
    adjusted = config.sampler == "langevin"
    return autoencoders.langevin(
        estimator, initial_state, num_results, stddev**2, adjusted=adjusted, **settings
    )
