"""Markov transitions driven by a score alone, for `tfp.mcmc` (thesis, 3.4).

There is no density to evaluate, so `target_log_prob` is 0 everywhere and the path integral of the
score between the present and the proposed state stands in `log_acceptance_correction`, which is all
that `tfp.mcmc.MetropolisHastings` needs. For a conservative score that is Metropolis-Hastings on
its density, exact as far as the quadrature is; the straight way back has the opposite integral.
"""

import collections

import tensorflow as tf
import tensorflow_probability as tfp

Results = collections.namedtuple(
    "Results", ["log_acceptance_correction", "target_log_prob", "score"]
)


class _ScoreDriven(tfp.mcmc.TransitionKernel):
    """What the uncalibrated kernels below share.

    Args:
        estimator: a `ScoreEstimator`; states are points (n, ...), one a chain.
        num_points: of the path integral.
        rule: of the path integral.
    """

    def __init__(self, estimator, num_points, rule):
        self._estimator, self._num_points, self._rule = estimator, num_points, rule
        self._parameters = {"estimator": estimator, "num_points": num_points, "rule": rule}

    @property
    def parameters(self):
        """What the kernel was made with."""
        return self._parameters

    @property
    def is_calibrated(self):
        """False: `tfp.mcmc.MetropolisHastings` around it calibrates it."""
        return False

    def bootstrap_results(self, init_state):
        """Returns the results of a state before the first step."""
        zeros = tf.zeros(tf.shape(init_state)[:1], init_state.dtype)
        return Results(zeros, zeros, self._score(init_state))

    def _log_density_ratio(self, state, proposed):
        """Returns log p(proposed) - log p(state), (n,)."""
        return -self._estimator.energy_difference(
            state, proposed, num_points=self._num_points, rule=self._rule
        )

    def _noise(self, state, seed):
        return tf.random.stateless_normal(
            tf.shape(state), tfp.random.sanitize_seed(seed), dtype=state.dtype
        )


class RandomWalk(_ScoreDriven):
    """Proposes x + proposal_stddev e with e ~ N(0, I); uncalibrated.

    Args:
        estimator: a `ScoreEstimator`.
        proposal_stddev: positive, in the units of x.
        num_points: of the path integral.
        rule: of the path integral.
    """

    def __init__(self, estimator, proposal_stddev, num_points, rule):
        super().__init__(estimator, num_points, rule)
        self._stddev = proposal_stddev
        self._parameters["proposal_stddev"] = proposal_stddev

    def _score(self, state):
        return ()  # a random walk needs none

    def one_step(self, current_state, previous_kernel_results, seed=None):
        """Returns a proposal and its `Results`."""
        step = tf.constant(self._stddev, current_state.dtype) * self._noise(current_state, seed)
        proposed = current_state + step
        ratio = self._log_density_ratio(current_state, proposed)
        return proposed, Results(ratio, tf.zeros_like(ratio), ())


class Langevin(_ScoreDriven):
    """Proposes x + step_size / 2 score(x) + sqrt(step_size) e with e ~ N(0, I).

    Without calibration it is the unadjusted Langevin algorithm, with it the Metropolis-adjusted
    one. A step costs one score, and `num_points` of the path integral if it is to be adjusted.

    Args:
        estimator: a `ScoreEstimator`.
        step_size: positive, in the squared units of x.
        adjusted: whether to compute the correction; without, it is 0.
        num_points: of the path integral.
        rule: of the path integral.
    """

    def __init__(self, estimator, step_size, adjusted, num_points, rule):
        super().__init__(estimator, num_points, rule)
        self._step_size, self._adjusted = step_size, adjusted
        self._parameters.update(step_size=step_size, adjusted=adjusted)

    def _score(self, state):
        return self._estimator.score(state)

    def one_step(self, current_state, previous_kernel_results, seed=None):
        """Returns a proposal and its `Results`."""
        state, dtype = current_state, current_state.dtype
        half, root = (tf.constant(a, dtype) for a in (self._step_size / 2, self._step_size**0.5))
        noise = self._noise(state, seed)
        score = previous_kernel_results.score
        proposed = state + half * score + root * noise
        proposed_score = self._score(proposed)
        if not self._adjusted:
            zeros = tf.zeros_like(previous_kernel_results.target_log_prob)
            return proposed, Results(zeros, zeros, proposed_score)
        back = (state - proposed - half * proposed_score) / root
        axes = list(range(1, state.shape.rank))
        # log q(state | proposed) - log q(proposed | state)
        ratio = tf.reduce_sum(tf.square(noise) - tf.square(back), axes) / 2
        ratio += self._log_density_ratio(state, proposed)
        return proposed, Results(ratio, tf.zeros_like(ratio), proposed_score)
