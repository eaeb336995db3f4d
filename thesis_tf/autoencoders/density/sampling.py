"""Samples from the density that a reconstruction function implies (thesis, 3.4)."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf import mcmc
from thesis_tf._core import arrays, checks
from thesis_tf._core.types import Path, TensorLike, Verbose
from thesis_tf.autoencoders.density.score import ScoreEstimator
from thesis_tf.autoencoders.density.transition_kernels import Langevin, RandomWalk

_EXAMINED = 20  # the most results of chains at which r must be finite


def metropolis_hastings(
    estimator: ScoreEstimator,
    initial_state: TensorLike,
    num_results: int,
    proposal_stddev: float,
    *,
    num_burnin_steps: int = 0,
    num_steps_between_results: int = 0,
    seed: int = 0,
    num_points: int = 2,
    rule: str = "gauss_legendre",
    jit_compile: bool = False,
    verbose: Verbose = "auto",
    folder: Path | None = None,
) -> mcmc.Chains:
    """Samples by a random walk whose acceptance is a path integral of the score (3.4.1).

    A proposal x* = x + proposal_stddev e is accepted with probability min(1, exp(E(x) - E(x*))),
    which costs `num_points` evaluations of r per chain. All chains run in parallel. This function
    is `mcmc.sample_chain` with the kernel `tfp.mcmc.MetropolisHastings(RandomWalk(...))`.

    Args:
        estimator: a `ScoreEstimator`.
        initial_state: (chains, ...), where each chain begins.
        num_results: the number of kept states per chain.
        proposal_stddev: the standard deviation of a step, in the units of x.
        num_burnin_steps, num_steps_between_results, seed: as for `mcmc.sample_chain`.
        num_points: the number of points of the path integral. Two are exact if log p is a
            polynomial of degree 4 along a step.
        rule: the quadrature rule, as for `ScoreEstimator.energy_difference`.
        jit_compile, verbose, folder: as for `mcmc.sample_chain`.

    Returns:
        `mcmc.Chains`; diagnostics are for each value of a state.

    Raises:
        ValueError, TypeError: the initial state isn't finite or doesn't have a floating dtype, r
            changes its shape, a number isn't positive, steps are smaller than the rounding of
            states, the folder holds other chains, or chains
            came to points where r(x) is NaN, which a path integral may miss.
    """
    state = _checked_state(estimator, initial_state)
    _check_resolved("`proposal_stddev`", proposal_stddev, proposal_stddev, state)
    kernel = RandomWalk(estimator, proposal_stddev, num_points=num_points, rule=rule)
    chains = mcmc.sample_chain(
        tfp.mcmc.MetropolisHastings(kernel),
        state,
        num_results,
        num_burnin_steps=num_burnin_steps,
        num_steps_between_results=num_steps_between_results,
        seed=seed,
        statistics=None,
        jit_compile=jit_compile,
        verbose=verbose,
        folder=folder,
    )
    return _checked_chains(estimator, chains)


def langevin(
    estimator: ScoreEstimator,
    initial_state: TensorLike,
    num_results: int,
    step_size: float,
    *,
    adjusted: bool = True,
    num_burnin_steps: int = 0,
    num_steps_between_results: int = 0,
    seed: int = 0,
    num_points: int = 2,
    rule: str = "gauss_legendre",
    jit_compile: bool = False,
    verbose: Verbose = "auto",
    folder: Path | None = None,
) -> mcmc.Chains:
    """Samples by Langevin steps, x* = x + step_size / 2 score(x) + sqrt(step_size) e.

    It is `mcmc.sample_chain` with the kernel `Langevin`, inside `tfp.mcmc.MetropolisHastings` if
    `adjusted`.

    Args:
        estimator: a `ScoreEstimator`.
        initial_state: (chains, ...), where each chain begins.
        num_results: the number of kept states per chain.
        step_size: the step size, in the squared units of x; the standard deviation of a step's
            noise is its square root.
        adjusted: whether a step may be rejected, as in `metropolis_hastings`. Otherwise every step
            is accepted, and the samples have a bias of the order of `step_size`.
        num_burnin_steps, num_steps_between_results, seed: as for `mcmc.sample_chain`.
        num_points, rule: as for `metropolis_hastings`.
        jit_compile, verbose, folder: as for `mcmc.sample_chain`.

    Returns:
        `mcmc.Chains`; unadjusted chains have an acceptance of 1.

    Raises:
        ValueError, TypeError: as for `metropolis_hastings`.
    """
    state = _checked_state(estimator, initial_state)
    _check_resolved("`step_size`", step_size, max(step_size, 0) ** 0.5, state)
    kernel = Langevin(estimator, step_size, adjusted=adjusted, num_points=num_points, rule=rule)
    chains = mcmc.sample_chain(
        tfp.mcmc.MetropolisHastings(kernel) if adjusted else kernel,
        state,
        num_results,
        num_burnin_steps=num_burnin_steps,
        num_steps_between_results=num_steps_between_results,
        seed=seed,
        statistics=None,
        jit_compile=jit_compile,
        verbose=verbose,
        folder=folder,
    )
    return _checked_chains(estimator, chains)


def _checked_chains(estimator: ScoreEstimator, chains: mcmc.Chains) -> mcmc.Chains:
    """Returns chains; raises ValueError if r isn't finite at some of their states.

    The points of a path integral don't include its end, so a step may cross the border of a region
    where r is NaN, to which chains would then keep.
    """
    steps = np.unique(np.linspace(0, len(chains.samples) - 1, _EXAMINED).astype(int))
    for step in steps:
        estimator.check_finite(tf.constant(chains.samples[step]), f"states after result {step + 1}")
    return chains


def _check_resolved(name: str, given: float, stddev: float, state: tf.Tensor) -> None:
    """Raises ValueError if steps are so small that states can't change by them."""
    ulp = float(np.finfo(state.dtype.as_numpy_dtype).eps * tf.reduce_max(tf.abs(state)))
    if 0 < stddev < 8 * ulp:
        raise checks.invalid(
            name,
            f"of steps above {8 * ulp:.2g}, eight roundings of {state.dtype.name} states as large"
            " as these",
            given,
            "Subtract the mean of the data before training, or use float64.",
        )


def _checked_state(estimator: ScoreEstimator, initial_state: TensorLike) -> tf.Tensor:
    """Returns the initial state as a tensor, at which the score is finite."""
    if not isinstance(estimator, ScoreEstimator):
        received = type(estimator).__name__
        raise checks.invalid("`estimator`", "a ScoreEstimator", received, kind=TypeError)
    state = arrays.checked_points("`initial_state`", initial_state, at_least=1)
    if not tf.reduce_all(tf.math.is_finite(estimator.score(state))):
        raise checks.invalid("r(x)", "finite at `initial_state`", "NaN or infinity")
    return state
