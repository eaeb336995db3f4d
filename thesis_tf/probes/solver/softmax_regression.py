"""Softmax regression to certified optimality: the convex problem that a linear probe is.

For standardised features X (N, D), labels y in [0, K) and a penalty lambda the problem is

    f(W) = min_b  (1/N) sum_n [ logsumexp(x_n W + b) - (x_n W + b)[y_n] ]  +  lambda/2 ||W||^2.

The bias is not penalised and is eliminated: at each W it is solved for exactly, so that
grad f(W) = X'(P - Y)/N + lambda W at that b. As f is lambda-strongly convex,

    f(W) - min f  <=  ||grad f(W)||^2 / (2 lambda),

which is a certificate that needs no other solution to compare with: the solver stops when the
right-hand side is below the gap that was asked for.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from thesis_tf.probes.solver.lbfgs import dot, minimize

ABSENT = -30.0  # logits: the bias of a class without training examples, below all others


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value
class Solution:
    """A fitted probe and the certificate that it is one.

    Attributes:
        weights: (D, K), for features as they are stored (not standardised).
        bias: (K,).
        penalty: lambda, on the weights of standardised features.
        loss: f(W), the mean cross-entropy in nats plus the penalty term.
        gap: an upper bound on f(W) - min f, in nats.
        converged: whether `gap` is as small as was asked for.
        steps: the number of evaluations of f and its gradient.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    loss: float
    gap: float
    converged: bool
    steps: int


class Point(NamedTuple):
    """f at one W, in float64.

    Attributes:
        x: W' (K, D), for standardised features and the classes that occur.
        bias: (K,), the best one for these weights.
        value: f(W).
        gradient: of f, (K, D).
        curvature: c, such that the Hessian of the cross-entropy is about c X'X/N in each class.
    """

    x: np.ndarray
    bias: np.ndarray
    value: float
    gradient: np.ndarray
    curvature: float


class SoftmaxRegression:
    """The problem for one feature matrix and one set of labels; solves it for any penalty.

    What is of the features' size runs in TensorFlow, on whatever device it has; vectors of the
    weights' size are NumPy's, whose calls cost less (a step of 1,024 features took 1.6x as long
    with TensorFlow's). BLAS stays out of those: its threads would go on spinning against
    TensorFlow's (4x slower on two cores).

    Args:
        features: `Standardised` features. If they are not kept in memory each evaluation makes
            two passes over them; the logits (N x K) are held in either case.
        labels: (N,) integers in [0, num_classes), of two classes at least.
        num_classes: K.
    """

    def __init__(self, features, labels, num_classes):
        # A class without examples would have its bias run off to minus infinity.
        self._present, labels = np.unique(np.asarray(labels), return_inverse=True)
        self._num_classes = num_classes
        self._features = features
        self._labels = tf.constant(labels, tf.int32)
        self._frequency = np.bincount(labels) / len(labels)
        # Traced once for all shapes, and called without a look at them: 0.3 ms less a step.
        matrix, vector = (tf.TensorSpec([None] * rank, features.dtype) for rank in (2, 1))
        self._evaluate_kept = _evaluate.get_concrete_function(
            matrix, matrix, tf.TensorSpec([None], tf.int32), vector, vector
        )
        self._apply_low_rank = _apply_low_rank.get_concrete_function(matrix, vector, matrix)

    def evaluate(self, weights, bias, penalty):
        """Returns the `Point` at W' (K, D); the search for its bias (K,) begins at `bias`.

        K counts the classes that occur.
        """
        dtype, kept = self._features.dtype, self._features.kept
        known = self._labels, tf.constant(self._frequency, dtype)
        narrow, start = tf.constant(weights.astype(dtype)), tf.constant(bias, dtype)
        if kept is not None:
            loss, slope, *rest = self._evaluate_kept(kept, narrow, *known, start)
        else:
            logits = [_logits(block, narrow) for _, block in self._features.blocks()]
            loss, residual, *rest = _eliminate_bias(tf.concat(logits, 1), *known, start)
            slope = tf.zeros(weights.shape, tf.float64)
            for first, block in self._features.blocks():
                slope += _product(residual[:, first : first + len(block)], block)
        bias, curvature = (value.numpy().astype(np.float64) for value in rest)
        value = float(loss) + 0.5 * penalty * dot(weights, weights)
        return Point(weights, bias, value, slope.numpy() + penalty * weights, float(curvature))

    def solve(self, penalty, gap=1e-3, start=None, max_steps=1000):
        """Minimises f by preconditioned L-BFGS until the certificate is below `gap`.

        Args:
            penalty: lambda > 0.
            gap: the bound on f(W) - min f to reach, in nats.
            start: a `Solution` of this problem to start from, e.g. for a larger penalty.
            max_steps: the most evaluations to make.

        Returns:
            A `Solution`; its `converged` says whether the gap was reached. It is not where
            `max_steps` ran out, or where the gap is below the rounding of the features' dtype.
        """
        mean, scale, dtype = self._features.mean, self._features.scale, self._features.dtype
        weights = np.zeros((len(self._present), self._features.size))
        bias = np.log(self._frequency)
        if start is not None:
            raw = start.weights[:, self._present].T.astype(np.float64)
            weights = raw * np.where(np.isfinite(scale), scale, 0.0)
            bias = start.bias[self._present] + (raw * mean).sum(1)
        point, steps = minimize(
            lambda weights, near: self.evaluate(weights, near.bias, penalty),
            self.evaluate(weights, bias, penalty),
            lambda point: self._preconditioner(penalty, point.curvature),
            lambda gradient: dot(gradient, gradient) <= 2 * penalty * gap,
            max_steps=max_steps,
            rounding=2 * np.finfo(dtype).eps,
        )
        bound = dot(point.gradient, point.gradient) / (2 * penalty)
        raw = point.x / scale
        # Not a product of matrices, which would start BLAS' threads.
        bias = point.bias - (raw * mean).sum(1)
        whole = np.zeros((self._features.size, self._num_classes), dtype)
        whole[:, self._present] = raw.T
        whole_bias = np.full(self._num_classes, bias.min() + ABSENT, dtype)
        whole_bias[self._present] = bias
        converged = bool(bound <= gap)
        return Solution(whole, whole_bias, penalty, point.value, bound, converged, steps)

    def _preconditioner(self, penalty, curvature):
        """Returns a function that applies about the inverse of c X'X/N + lambda I to (K, D)."""
        vectors, values, tail = self._features.spectrum
        # On the way to the minimum probabilities become surer still: 8% fewer steps.
        curvature = 0.6 * curvature
        rest = 1 / (penalty + curvature * tail)
        gains = tf.constant(1 / (penalty + curvature * values) - rest, vectors.dtype)

        def apply(v):
            narrow = tf.constant(v.astype(self._features.dtype))
            return rest * v + self._apply_low_rank(vectors, gains, narrow).numpy()

        return apply


@tf.function(autograph=False, reduce_retracing=True)
def _evaluate(features, weights, labels, frequency, start):
    """The loss, its gradient without the penalty (K, D), the bias, and the curvature."""
    logits = _logits(features, weights)
    loss, residual, bias, curvature = _eliminate_bias(logits, labels, frequency, start)
    return loss, _product(residual, features), bias, curvature


def _logits(features, weights):
    # With the classes first a step of 5,000 examples and 10 classes takes half as long: what
    # follows runs along rows of 5,000 numbers. Transposing the product is quicker than any
    # product of transposes.
    return tf.transpose(tf.matmul(features, weights, transpose_b=True))


def _product(residual, features):
    return tf.cast(residual @ features, tf.float64)


@tf.function(autograph=False, reduce_retracing=True)
def _eliminate_bias(logits, labels, frequency, start):
    """Solves for the bias by Newton's method at fixed logits W'x_n (K, N).

    Exponentials are taken once: a change of the bias multiplies them by one factor a class.

    Returns:
        The mean cross-entropy (float64), the residual (P - Y)'/N (K, N), the bias (K,), and the
        mean of (1 - sum_k p_k^2)/(K - 1), the curvature of the cross-entropy in a logit.
    """
    dtype, classes = logits.dtype, tf.shape(logits)[0]
    count = tf.cast(tf.shape(logits)[1], dtype)
    # The certificate takes the slope to be zero, and rounding leaves it no smaller than this.
    tolerance = 1e-6 if dtype == tf.float32 else 1e-13
    logits += start[:, tf.newaxis]
    logits -= tf.reduce_max(logits, 0)
    own = tf.gather_nd(logits, tf.stack([labels, tf.range(tf.shape(labels)[0])], 1))
    exps = tf.exp(logits)

    def normalise(change):
        """p = factor * shares, of which the mean over examples is `mean`."""
        factor = tf.exp(change)
        total = tf.linalg.matvec(exps, factor, transpose_a=True)
        shares = exps / total
        return change, factor, total, shares, factor * tf.reduce_mean(shares, 1)

    def newton(_, change, factor, total, shares, mean):
        # The Hessian is diag(mean p) - mean pp', a graph's Laplacian: its diagonal is put
        # together from the rest, as what is left of 1 - p would be rounding where p is close to 1.
        together = factor[:, tf.newaxis] * tf.matmul(shares, shares, transpose_b=True) * factor
        together = tf.linalg.set_diag(together / count, tf.zeros_like(factor))
        degrees = tf.reduce_sum(together, 1)
        # All biases up by one constant changes nothing; adding 1 everywhere pins that down.
        hessian = tf.linalg.diag(degrees + tolerance) - together + 1
        step = tf.linalg.solve(hessian, (mean - frequency)[:, tf.newaxis])[:, 0]
        # Newton's method on a log-sum-exp may overshoot from far away; a bounded step can't.
        step /= tf.maximum(tf.reduce_max(tf.abs(step)) / 2, 1)
        return tf.reduce_sum(degrees), *normalise(change - step)

    uncertain, change, factor, total, shares, _ = tf.while_loop(
        lambda *state: tf.reduce_max(tf.abs(state[-1] - frequency)) > tolerance,
        newton,
        newton(0.0, *normalise(tf.zeros_like(start))),
        maximum_iterations=20,
    )
    losses = tf.math.log(total) - own - tf.gather(change, labels)
    residual = shares * (factor / count)[:, tf.newaxis]
    residual -= tf.one_hot(labels, classes, 1 / count, 0.0, axis=0, dtype=dtype)
    curvature = uncertain / tf.cast(tf.maximum(classes - 1, 1), dtype)
    # Where all is learnt by heart there is none left to precondition by.
    curvature = tf.maximum(curvature, 1e-8)
    return tf.reduce_mean(tf.cast(losses, tf.float64)), residual, start + change, curvature


@tf.function(autograph=False, reduce_retracing=True)
def _apply_low_rank(vectors, gains, v):
    return (gains * tf.matmul(v, vectors, transpose_b=True)) @ vectors
