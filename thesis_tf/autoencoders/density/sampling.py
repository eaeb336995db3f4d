"""Samples from the density that a reconstruction function implies (thesis, 3.4)."""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import arrays, checks
from thesis_tf.autoencoders.density import kernels
from thesis_tf.autoencoders.density.score import ScoreEstimator
from thesis_tf.mcmc import pieces
from thesis_tf.mcmc.diagnostics import Diagnostics, diagnose
from thesis_tf.persistence import fingerprint


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """Markov chains that have run.

    Attributes:
        samples: (steps, chains, ...) array of the states that were kept.
        acceptance: the part of all proposals that was accepted.
        diagnostics: `Diagnostics` of the samples.
    """

    samples: np.ndarray
    acceptance: float
    diagnostics: Diagnostics


def metropolis_hastings(
    estimator,
    initial_state,
    num_steps,
    proposal_stddev,
    seed,
    *,
    num_points=2,
    rule="gauss_legendre",
    burn_in=0,
    thin=1,
    jit_compile=False,
    progress=False,
    folder=None,
):
    """Samples by a random walk whose acceptance is a path integral of the score (3.4.1).

    A proposal x* = x + proposal_stddev e is accepted with probability min(1, exp(E(x) - E(x*))),
    at the cost of r at `num_points` points a chain. All chains step at once.

    Args:
        estimator: a `ScoreEstimator`.
        initial_state: (chains, ...), where each chain begins.
        num_steps: steps of each chain after `burn_in`; of every `thin` of them one is kept.
        proposal_stddev: standard deviation of a step, in the units of x.
        seed: an integer or a pair of them; the same gives the same chains.
        num_points: of the path integral. Two are exact where log p is a polynomial of degree 4
            along a step.
        rule: of the path integral, as for `ScoreEstimator.energy_difference`.
        burn_in: steps before the first that counts.
        thin: steps for each state that is kept.
        jit_compile: whether XLA compiles a piece of the chains.
        progress: whether a terminal shows a bar.
        folder: where to keep the chains piece by piece, so that the same call goes on after a kill
            and ends with the same samples; None keeps nothing.

    Returns:
        `Chains`.

    Raises:
        ValueError, TypeError: an initial state that isn't finite or of a floating dtype, an r that
            doesn't keep its shape, a number that isn't positive, a folder of other chains.
    """
    stddev = checks.positive_number("`proposal_stddev`", proposal_stddev)
    inner = kernels.RandomWalk(estimator, stddev, num_points, rule)
    kernel = tfp.mcmc.MetropolisHastings(inner)
    chains = estimator, initial_state, num_steps, burn_in, thin
    return _Run(chains, seed, jit_compile, progress, folder).with_kernel(kernel)


def langevin(
    estimator,
    initial_state,
    num_steps,
    step_size,
    seed,
    *,
    adjusted=True,
    num_points=2,
    rule="gauss_legendre",
    burn_in=0,
    thin=1,
    jit_compile=False,
    progress=False,
    folder=None,
):
    """Samples by Langevin steps, x* = x + step_size / 2 score(x) + sqrt(step_size) e.

    Args:
        estimator: a `ScoreEstimator`.
        initial_state: (chains, ...), where each chain begins.
        num_steps: steps of each chain after `burn_in`.
        step_size: in the squared units of x; the noise of a step has its root as standard
            deviation.
        seed: an integer or a pair of them.
        adjusted: whether a step may be rejected, as in `metropolis_hastings`. Without, every step
            is taken and the samples are biased by the order of `step_size`.
        num_points, rule, burn_in, thin: as for `metropolis_hastings`.
        jit_compile, progress, folder: as for `metropolis_hastings`.

    Returns:
        `Chains`; unadjusted ones have an acceptance of 1.

    Raises:
        ValueError, TypeError: as `metropolis_hastings`.
    """
    step_size = checks.positive_number("`step_size`", step_size)
    kernel = kernels.Langevin(estimator, step_size, adjusted, num_points, rule)
    if adjusted:
        kernel = tfp.mcmc.MetropolisHastings(kernel)
    chains = estimator, initial_state, num_steps, burn_in, thin
    return _Run(chains, seed, jit_compile, progress, folder).with_kernel(kernel)


class _Run:
    """Chains in pieces of one static length, each one call of `tfp.mcmc.sample_chain`."""

    def __init__(self, chains, seed, jit_compile, progress, folder):
        estimator, initial_state, num_steps, burn_in, thin = chains
        if not isinstance(estimator, ScoreEstimator):
            received = type(estimator).__name__
            raise checks.invalid("`estimator`", "a ScoreEstimator", received, kind=TypeError)
        self._state = arrays.checked_points("`initial_state`", initial_state, at_least=1)
        self._score = estimator.score(self._state)  # an r that doesn't fit is an error by now
        if not tf.reduce_all(tf.math.is_finite(self._score)):
            raise checks.invalid("r(x)", "finite at `initial_state`", "NaN or infinity")
        self._lengths = pieces.Lengths.of(num_steps, burn_in, thin)
        self._seed = arrays.checked_seed(seed)
        self._jit_compile, self._progress = jit_compile, progress
        self._folder = folder

    def with_kernel(self, kernel):
        """Returns the `Chains` of a kernel."""
        kernel = _CountingAcceptance(kernel)
        burn_in = self._compiled(kernel, 1, self._lengths.burn_in)
        step = self._compiled(kernel, self._lengths.piece, self._lengths.thin)
        found, _ = pieces.run(
            pieces.Pieces(lambda state, seed: burn_in(state, seed)[0], step),
            [self._state],
            self._lengths,
            self._seed,
            progress=self._progress,
            folder=self._open_folder(kernel),
        )
        samples = np.concatenate(found["states"])[: self._lengths.kept]
        steps = len(found["states"]) * self._lengths.piece * self._lengths.thin
        rates = sum(found["accepted"]) / steps
        return Chains(samples, float(rates.mean()), diagnose(samples, rates))

    def _compiled(self, kernel, count, thin):
        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def piece(state, seed):
            kept = tfp.mcmc.sample_chain(
                count,
                state[0],
                kernel=kernel,
                # The first result too comes after `thin` steps.
                num_burnin_steps=thin - 1,
                num_steps_between_results=thin - 1,
                trace_fn=lambda _, results: results.accepted,
                seed=seed,
            )
            results = {"states": kept.all_states, "accepted": kept.trace[-1]}
            return [kept.all_states[-1]], results

        return piece

    def _open_folder(self, kernel):
        """Returns the `ChainFolder`, None without a folder."""
        if self._folder is None:
            return None
        settings = {k: v for k, v in kernel.settings.items() if isinstance(v, int | float | str)}
        run = {
            "initial_state": fingerprint.of_arrays([self._state.numpy()]),
            "steps": [self._lengths.kept, self._lengths.thin, self._lengths.burn_in],
            "seed": self._seed.numpy().tolist(),
            "kernel": [kernel.name, settings],
        }
        score = self._score.numpy()[:1].ravel()[:16]
        return pieces.ChainFolder(self._folder, run, {"score": score})


Counted = collections.namedtuple("Counted", ["inner", "accepted"])


class _CountingAcceptance(tfp.mcmc.TransitionKernel):
    """Counts accepted proposals over all steps, those between two results included."""

    def __init__(self, kernel):
        self._kernel = kernel
        inner = getattr(kernel, "inner_kernel", kernel)
        self.name, self.settings = type(inner).__name__, inner.parameters

    @property
    def parameters(self):
        return {"kernel": self._kernel}

    @property
    def is_calibrated(self):
        return True  # tfp would warn of unadjusted Langevin, which was asked for by name

    def bootstrap_results(self, init_state):
        inner = self._kernel.bootstrap_results(init_state)
        return Counted(inner, tf.zeros(tf.shape(init_state)[0], tf.int32))

    def one_step(self, current_state, previous_kernel_results, seed=None):
        state, inner = self._kernel.one_step(
            current_state, previous_kernel_results.inner, seed=seed
        )
        # An unadjusted kernel takes every step.
        accepted = getattr(inner, "is_accepted", None)
        more = 1 if accepted is None else tf.cast(accepted, tf.int32)
        return state, Counted(inner, previous_kernel_results.accepted + more)
