"""Transition kernels for `tfp.mcmc` that need only a score (thesis, 3.4).

No density is evaluated: `target_log_prob` is always 0, and `log_acceptance_correction` is the path
integral of the score from the current to the proposed state. `tfp.mcmc.MetropolisHastings` needs
nothing else. For a conservative score this is Metropolis-Hastings on its density, exact up to the
error of the quadrature, since the reverse step has the opposite integral.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import checks
from thesis_tf.autoencoders.density.score import ScoreEstimator


class Results(NamedTuple):
    """The results of a proposal, for `tfp.mcmc.MetropolisHastings`.

    Attributes:
        log_acceptance_correction: (chains,), log p(proposal) - log p(state), and for Langevin steps
            the log ratio of the proposal densities.
        target_log_prob: (chains,), zeros.
        score: (chains, ...), the score at the proposal; () for a random walk.
        is_accepted: (chains,), true: without calibration every proposal is accepted.
    """

    log_acceptance_correction: tf.Tensor
    target_log_prob: tf.Tensor
    score: Any
    is_accepted: tf.Tensor


class _ScoreDriven(tfp.mcmc.TransitionKernel):
    """The base class of the uncalibrated kernels.

    Args:
        estimator: a `ScoreEstimator`; states are points (chains, ...).
        num_points: the number of points of the path integral.
        rule: the quadrature rule of the path integral.
    """

    def __init__(self, estimator: ScoreEstimator, num_points: int, rule: str) -> None:
        self._estimator, self._num_points, self._rule = estimator, num_points, rule
        self._parameters: dict[str, Any] = {
            "estimator": estimator,
            "num_points": num_points,
            "rule": rule,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return self._parameters

    @property
    def is_calibrated(self) -> bool:
        """False: `tfp.mcmc.MetropolisHastings` around the kernel calibrates it."""
        return False

    def bootstrap_results(self, init_state: tf.Tensor) -> Results:
        """Returns the results of a state before the first step."""
        zeros = tf.zeros(tf.shape(init_state)[:1], init_state.dtype)
        return Results(zeros, zeros, self._score(init_state), tf.ones_like(zeros, tf.bool))

    def model_values(self, state: tf.Tensor) -> np.ndarray:
        """Returns a few values of the score, which identify the estimator."""
        return self._estimator.score(state).numpy()[:1].ravel()[:16]

    def _score(self, state: tf.Tensor) -> Any:
        raise NotImplementedError

    def _log_density_ratio(self, state: tf.Tensor, proposed: tf.Tensor) -> tf.Tensor:
        """Returns log p(proposed) - log p(state), (chains,)."""
        return -self._estimator.energy_difference_or_nan(
            state, proposed, num_points=self._num_points, rule=self._rule
        )

    def _noise(self, state: tf.Tensor, seed: Any) -> tf.Tensor:
        return tf.random.stateless_normal(
            tf.shape(state), tfp.random.sanitize_seed(seed), dtype=state.dtype
        )


class RandomWalk(_ScoreDriven):
    """Proposes x + proposal_stddev e with e ~ N(0, I); uncalibrated.

        kernel = tfp.mcmc.MetropolisHastings(RandomWalk(estimator, 0.1))

    Args:
        estimator: a `ScoreEstimator`.
        proposal_stddev: positive, in the units of x.
        num_points: the number of points of the path integral.
        rule: the quadrature rule, as for `ScoreEstimator.energy_difference`.

    Raises:
        ValueError: the standard deviation isn't positive.
    """

    def __init__(
        self,
        estimator: ScoreEstimator,
        proposal_stddev: float,
        *,
        num_points: int = 2,
        rule: str = "gauss_legendre",
    ) -> None:
        super().__init__(estimator, num_points, rule)
        self._stddev = checks.positive_number("`proposal_stddev`", proposal_stddev)
        self._parameters["proposal_stddev"] = self._stddev

    def _score(self, state: tf.Tensor) -> Any:
        return ()  # a random walk needs none

    def one_step(
        self, current_state: tf.Tensor, previous_kernel_results: Results, seed: Any = None
    ) -> tuple[tf.Tensor, Results]:
        """Returns a proposal and its `Results`."""
        step = tf.constant(self._stddev, current_state.dtype) * self._noise(current_state, seed)
        proposed = current_state + step
        ratio = self._log_density_ratio(current_state, proposed)
        zeros = tf.zeros_like(ratio)
        return proposed, Results(ratio, zeros, (), tf.ones_like(zeros, tf.bool))


class Langevin(_ScoreDriven):
    """Proposes x + step_size / 2 score(x) + sqrt(step_size) e with e ~ N(0, I).

    Without calibration this is the unadjusted Langevin algorithm, with calibration the
    Metropolis-adjusted one. A step costs one evaluation of the score, plus `num_points` for the
    path integral if it is adjusted.

        kernel = tfp.mcmc.MetropolisHastings(Langevin(estimator, 0.01))
        kernel = Langevin(estimator, 0.01, adjusted=False)

    Args:
        estimator: a `ScoreEstimator`.
        step_size: positive, in the squared units of x.
        adjusted: whether to compute the correction; if false, it is 0.
        num_points: the number of points of the path integral.
        rule: the quadrature rule, as for `ScoreEstimator.energy_difference`.

    Raises:
        ValueError: the step size isn't positive.
    """

    def __init__(
        self,
        estimator: ScoreEstimator,
        step_size: float,
        *,
        adjusted: bool = True,
        num_points: int = 2,
        rule: str = "gauss_legendre",
    ) -> None:
        super().__init__(estimator, num_points, rule)
        self._step_size = checks.positive_number("`step_size`", step_size)
        self._adjusted = adjusted
        self._parameters.update(step_size=self._step_size, adjusted=adjusted)

    def _score(self, state: tf.Tensor) -> tf.Tensor:
        return self._estimator.score_or_nan(state)

    def one_step(
        self, current_state: tf.Tensor, previous_kernel_results: Results, seed: Any = None
    ) -> tuple[tf.Tensor, Results]:
        """Returns a proposal and its `Results`."""
        state, dtype = current_state, current_state.dtype
        half, root = (tf.constant(a, dtype) for a in (self._step_size / 2, self._step_size**0.5))
        noise = self._noise(state, seed)
        score = previous_kernel_results.score
        proposed = state + half * score + root * noise
        proposed_score = self._score(proposed)
        zeros = tf.zeros_like(previous_kernel_results.target_log_prob)
        taken = tf.ones_like(zeros, tf.bool)
        if not self._adjusted:
            return proposed, Results(zeros, zeros, proposed_score, taken)
        back = (state - proposed - half * proposed_score) / root
        axes = list(range(1, state.shape.rank))
        # log q(state | proposed) - log q(proposed | state)
        ratio = tf.reduce_sum(tf.square(noise) - tf.square(back), axes) / 2
        ratio += self._log_density_ratio(state, proposed)
        return proposed, Results(ratio, zeros, proposed_score, taken)
