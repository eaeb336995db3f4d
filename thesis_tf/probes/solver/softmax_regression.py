"""Softmax regression, solved to certified optimality: the convex problem of a linear probe.

For standardized features X (N, D), labels y in [0, K) and lambda, the parameter `l2`, the problem
is

    f(W) = min_b  (1/N) sum_n [ logsumexp(x_n W + b) - (x_n W + b)[y_n] ]  +  lambda/2 ||W||^2.

The bias is not regularized. It is eliminated by solving for it exactly at each W, so that
grad f(W) = X'(P - Y)/N + lambda W at this b. Since f is lambda-strongly convex,

    f(W) - min f  <=  ||grad f(W)||^2 / (2 lambda),

which is a certificate of optimality: the solver stops when the right-hand side, the suboptimality,
is at most `tol`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from thesis_tf._core.types import Array
from thesis_tf.probes.solver.lbfgs import dot, minimize
from thesis_tf.probes.solver.standardized import Standardized, logits

ABSENT = -30.0  # the bias of a class without training examples, relative to the smallest other


@dataclasses.dataclass(frozen=True, eq=False, repr=False)  # arrays have no truth value
class Solution:
    """A fitted probe and its certificate of optimality.

    Its logits are z W + b for standardized features z = (x - mean) / scale; `weights` and `bias`
    are those for x itself (where no z is clipped).

    Attributes:
        standardized_weights: W (D, K), in the dtype in which logits are computed.
        standardized_bias: b (K,).
        mean: (D,), float64.
        scale: (D,), float64; infinity for features that are left out, as they are constant among
            the training examples.
        l2: lambda, the coefficient of the squared norm of W.
        loss: f(W), the mean cross-entropy in nats plus lambda/2 ||W||^2.
        suboptimality: an upper bound of f(W) - min f, in nats.
        converged: whether `suboptimality` is at most `tol`.
        evaluations: the number of evaluations of f and its gradient.
        left_out: the number of features that are left out.
        limit: |z| beyond which z is clipped, sqrt(N) for N training examples: none of these is
            farther from the mean in any feature, but a unit that hardly fires in training may be
            thousands of deviations from its mean for another example, whose loss would then decide
            about l2. None for a live probe.
    """

    standardized_weights: Array
    standardized_bias: Array
    mean: Array
    scale: Array
    l2: float
    loss: float
    suboptimality: float
    converged: bool
    evaluations: int
    _: dataclasses.KW_ONLY
    left_out: int = 0
    limit: float | None = None

    @property
    def weights(self) -> Array:
        """The weights (D, K) for features that are not standardized, in float64."""
        return self.standardized_weights / self.scale[:, np.newaxis]

    @property
    def bias(self) -> Array:
        """The bias (K,) for features that are not standardized, in float64.

        In float32 x @ weights + bias would lose what distinguishes features far from zero.
        """
        # Not a matrix product, which would start BLAS threads.
        return self.standardized_bias - (self.weights * self.mean[:, np.newaxis]).sum(0)

    def logits(self, features: Any) -> tf.Tensor:
        """Returns the logits (n, K) of features (n, D), an array or a tensor."""
        parts = (self.mean, self.scale, self.standardized_weights, self.standardized_bias)
        return logits(tf.convert_to_tensor(features), *parts, self.limit)

    def __repr__(self) -> str:
        """Returns everything except the weights."""
        features, classes = self.standardized_weights.shape
        return (
            f"Solution({features} features, {classes} classes, l2={self.l2:.3g},"
            f" loss={self.loss:.4g}, suboptimality={self.suboptimality:.1e})"
        )


class Point(NamedTuple):
    """f at one W, in float64.

    Attributes:
        x: W' (K, D), for standardized features and the classes that occur.
        bias: (K,), the optimal bias for these weights.
        value: f(W).
        gradient: the gradient of f, (K, D).
        curvature: c, such that the Hessian of the cross-entropy is about c X'X/N in each class.
    """

    x: Array
    bias: Array
    value: float
    gradient: Array
    curvature: float


class SoftmaxRegression:
    """The problem for one feature matrix and one set of labels; solves it for any `l2`.

    Arrays of the features' size are TensorFlow tensors, on any device. Arrays of the weights' size
    are NumPy arrays, since NumPy's calls have less overhead (an evaluation with 1,024 features took
    1.6x as long with TensorFlow). Operations on NumPy arrays avoid BLAS, whose threads compete with
    those of TensorFlow (4x slower on two cores).

    Args:
        features: `Standardized` features. If they are not kept in memory, each evaluation makes
            two passes over them; the logits (N x K) are kept in either case.
        labels: (N,) integers in [0, num_classes), of at least two classes.
        num_classes: K.
    """

    def __init__(self, features: Standardized, labels: Array, num_classes: int) -> None:
        # The bias of a class without examples would diverge to minus infinity.
        self._present, labels = np.unique(np.asarray(labels), return_inverse=True)
        self._num_classes = num_classes
        self._features = features
        self._labels = tf.constant(labels, tf.int32)
        self._frequency = np.bincount(labels) / len(labels)
        # Concrete functions, traced once for all shapes: calling them saves 0.3 ms per step.
        matrix, vector = (tf.TensorSpec([None] * rank, features.dtype) for rank in (2, 1))
        self._evaluate_kept = _evaluate.get_concrete_function(
            matrix, matrix, tf.TensorSpec([None], tf.int32), vector, vector
        )
        self._apply_low_rank = _apply_low_rank.get_concrete_function(matrix, vector, matrix)

    def evaluate(self, weights: Array, bias: Array, l2: float) -> Point:
        """Returns the `Point` at W' (K, D); the search for its bias (K,) starts at `bias`.

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
        value = float(loss) + 0.5 * l2 * dot(weights, weights)
        return Point(weights, bias, value, slope.numpy() + l2 * weights, float(curvature))

    def solve(
        self,
        l2: float,
        *,
        tol: float = 1e-3,
        initial_solution: Solution | None = None,
        max_evaluations: int = 1000,
    ) -> Solution:
        """Minimizes f by preconditioned L-BFGS until the suboptimality is at most `tol`.

        Args:
            l2: lambda > 0.
            tol: the required bound of f(W) - min f, in nats.
            initial_solution: a `Solution` of this problem to start from, e.g. for a larger `l2`.
            max_evaluations: the maximum number of evaluations.

        Returns:
            A `Solution`. Its `converged` is False after `max_evaluations`, or if `tol` is below
            the rounding of the features' dtype.
        """
        dtype = self._features.dtype
        weights = np.zeros((len(self._present), self._features.size))
        bias = np.log(self._frequency)
        if initial_solution is not None:
            found = initial_solution.standardized_weights[:, self._present]
            weights = found.T.astype(np.float64)
            bias = initial_solution.standardized_bias[self._present].astype(np.float64)
        point, evaluations = minimize(
            lambda weights, near: self.evaluate(weights, near.bias, l2),
            self.evaluate(weights, bias, l2),
            lambda point: self._preconditioner(l2, point.curvature),
            lambda gradient: dot(gradient, gradient) <= 2 * l2 * tol,
            max_evaluations=max_evaluations,
            rounding=2 * np.finfo(dtype).eps,
        )
        bound = dot(point.gradient, point.gradient) / (2 * l2)
        weights = np.zeros((self._features.size, self._num_classes), dtype)
        weights[:, self._present] = point.x.T
        bias = np.full(self._num_classes, point.bias.min() + ABSENT, dtype)
        bias[self._present] = point.bias
        return Solution(
            weights,
            bias,
            self._features.mean,
            self._features.scale,
            l2=l2,
            loss=point.value,
            suboptimality=bound,
            converged=bool(bound <= tol),
            evaluations=evaluations,
            left_out=int(np.isinf(self._features.scale).sum()),
            limit=float(np.sqrt(self._features.examples)),
        )

    def _preconditioner(self, l2: float, curvature: float) -> Callable[[Array], Array]:
        """Returns a function that approximates the inverse of c X'X/N + lambda I to (K, D)."""
        vectors, values, tail = self._features.spectrum
        # Curvature decreases on the way to the minimum. With this factor: 8% fewer evaluations.
        curvature = 0.6 * curvature
        rest = 1 / (l2 + curvature * tail)
        gains = tf.constant(1 / (l2 + curvature * values) - rest, vectors.dtype)

        def apply(v: Array) -> Array:
            narrow = tf.constant(v.astype(self._features.dtype))
            return rest * v + self._apply_low_rank(vectors, gains, narrow).numpy()

        return apply


@tf.function(autograph=False, reduce_retracing=True)
def _evaluate(
    features: tf.Tensor,
    weights: tf.Tensor,
    labels: tf.Tensor,
    frequency: tf.Tensor,
    initial_bias: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """The loss, its gradient without lambda W (K, D), the bias, and the curvature."""
    logits = _logits(features, weights)
    loss, residual, bias, curvature = _eliminate_bias(logits, labels, frequency, initial_bias)
    return loss, _product(residual, features), bias, curvature


def _logits(features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    # With the classes on the first axis, an evaluation of 5,000 examples and 10 classes takes half
    # as long, since later operations run along rows of 5,000 numbers. Transposing the product is
    # faster than multiplying transposed matrices.
    return tf.transpose(tf.matmul(features, weights, transpose_b=True))


def _product(residual: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    return tf.cast(residual @ features, tf.float64)


@tf.function(autograph=False, reduce_retracing=True)
def _eliminate_bias(
    logits: tf.Tensor, labels: tf.Tensor, frequency: tf.Tensor, initial_bias: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Solves for the bias by Newton's method at fixed logits W'x_n (K, N).

    Exponentials are computed once: a change of the bias multiplies them by one factor per class.

    Returns:
        The mean cross-entropy (float64), the residual (P - Y)'/N (K, N), the bias (K,), and the
        mean of (1 - sum_k p_k^2)/(K - 1), the curvature of the cross-entropy in a logit.
    """
    dtype, classes = logits.dtype, tf.shape(logits)[0]
    count = tf.cast(tf.shape(logits)[1], dtype)
    # The certificate assumes that the slope is zero; due to rounding it can't be smaller than this.
    tolerance = 1e-6 if dtype == tf.float32 else 1e-13
    logits += initial_bias[:, tf.newaxis]
    logits -= tf.reduce_max(logits, 0)
    right = tf.gather_nd(logits, tf.stack([labels, tf.range(tf.shape(labels)[0])], 1))
    exps = tf.exp(logits)

    def normalize(change: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # The probabilities are factor * shares, and the last value their mean over examples.
        factor = tf.exp(change)
        total = tf.linalg.matvec(exps, factor, transpose_a=True)
        shares = exps / total
        return change, factor, total, shares, factor * tf.reduce_mean(shares, 1)

    def newton(
        _: tf.Tensor,
        change: tf.Tensor,
        factor: tf.Tensor,
        total: tf.Tensor,
        shares: tf.Tensor,
        mean: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        # The Hessian is diag(mean p) - mean pp', a graph Laplacian. Its diagonal is computed from
        # the other elements, since 1 - p would lose all digits where p is close to 1.
        together = factor[:, tf.newaxis] * tf.matmul(shares, shares, transpose_b=True) * factor
        together = tf.linalg.set_diag(together / count, tf.zeros_like(factor))
        degrees = tf.reduce_sum(together, 1)
        # Adding a constant to all biases changes nothing; adding 1 to all elements of the Hessian
        # makes it nonsingular.
        hessian = tf.linalg.diag(degrees + tolerance) - together + 1
        step = tf.linalg.solve(hessian, (mean - frequency)[:, tf.newaxis])[:, 0]
        # Newton's method on a log-sum-exp may overshoot from far away; a bounded step can't.
        step /= tf.maximum(tf.reduce_max(tf.abs(step)) / 2, 1)
        return tf.reduce_sum(degrees), *normalize(change - step)

    uncertain, change, factor, total, shares, _ = tf.while_loop(
        lambda *state: tf.reduce_max(tf.abs(state[-1] - frequency)) > tolerance,
        newton,
        newton(0.0, *normalize(tf.zeros_like(initial_bias))),
        maximum_iterations=20,
    )
    losses = tf.math.log(total) - right - tf.gather(change, labels)
    residual = shares * (factor / count)[:, tf.newaxis]
    residual -= tf.one_hot(labels, classes, 1 / count, 0.0, axis=0, dtype=dtype)
    curvature = uncertain / tf.cast(tf.maximum(classes - 1, 1), dtype)
    # If all labels are memorized, the curvature vanishes.
    curvature = tf.maximum(curvature, 1e-8)
    return tf.reduce_mean(tf.cast(losses, tf.float64)), residual, initial_bias + change, curvature


@tf.function(autograph=False, reduce_retracing=True)
def _apply_low_rank(vectors: tf.Tensor, gains: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    return (gains * tf.matmul(v, vectors, transpose_b=True)) @ vectors
