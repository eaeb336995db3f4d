"""Softmax regression to certified optimality: the convex problem that a linear probe is.

For standardised features X (N, D), labels y in [0, K) and a penalty lambda the problem is

    f(W) = min_b  (1/N) sum_n [ logsumexp(x_n W + b) - (x_n W + b)[y_n] ]  +  lambda/2 ||W||^2.

The bias is not penalised and is eliminated: at each W it is solved for exactly, so that
grad f(W) = X'(P - Y)/N + lambda W at that b. As f is lambda-strongly convex,

    f(W) - min f  <=  ||grad f(W)||^2 / (2 lambda),

which is a certificate that needs no other solution to compare with: the solver stops when the
right-hand side is below the gap that was asked for.
"""

import collections
import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

PRECONDITION_UP_TO = 1024  # features; above, X'X and its factor cost more than the steps they save
MEMORY = 10
ABSENT = -30.0  # logits: the bias of a class without training examples, below all others


@dataclasses.dataclass(frozen=True)
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


class SoftmaxRegression:
    """The problem for one feature matrix and one set of labels; solves it for any penalty.

    What is of the features' size runs in TensorFlow, on whatever device it has; vectors of the
    weights' size are NumPy's, whose calls cost less (a step of 1,024 features took 1.6x as long
    with TensorFlow's). BLAS stays out of those: its threads would go on spinning against
    TensorFlow's (4x slower on two cores).

    Args:
        blocks: a function without arguments that iterates over (first row, features (n, D)) in
            order; called once a pass if the features are not to be kept.
        labels: (N,) integers in [0, num_classes).
        num_classes: K.
        keep: whether to hold the standardised features in the device's memory (N x D numbers).
            If not, each evaluation makes two passes over `blocks`.
        dtype: of the arithmetic with features. Weights, gradients and sums over examples of the
            loss are float64 always.
    """

    def __init__(self, blocks, labels, num_classes, *, keep=True, dtype="float32"):
        labels = np.asarray(labels)
        # A class without examples would have its bias run off to minus infinity.
        self._present, labels = np.unique(labels, return_inverse=True)
        self._num_classes = num_classes
        self._dtype = tf.as_dtype(dtype)
        self._labels = tf.constant(labels, tf.int32)
        self._frequency = tf.constant(np.bincount(labels) / len(labels), self._dtype)
        self._blocks = blocks
        self._mean, self._scale = _moments(blocks)
        self._kept = None
        if keep:
            self._kept = tf.concat([block for _, block in self._standardised()], 0)
        self._gram = None
        self._bias = tf.math.log(self._frequency)
        self.examples, self.features = len(labels), len(self._mean)

    def _standardised(self):
        mean, scale = (tf.constant(v, self._dtype) for v in (self._mean, 1 / self._scale))
        for first, block in self._blocks():
            yield first, (tf.cast(block, self._dtype) - mean) * scale

    def evaluate(self, weights, penalty):
        """Returns f(W) and its gradient at W (D, number of classes present), in float64."""
        known = self._labels, self._frequency, self._bias
        narrow = tf.constant(weights, self._dtype)
        if self._kept is not None:
            loss, slope, self._bias = _evaluate(self._kept, narrow, *known)
        else:
            logits = tf.concat([block @ narrow for _, block in self._standardised()], 0)
            loss, residual, self._bias = _eliminate_bias(logits, *known)
            slope = tf.zeros(weights.shape, tf.float64)
            for first, block in self._standardised():
                slope += _product(block, residual[first : first + len(block)])
        loss = float(loss) + 0.5 * penalty * _dot(weights, weights)
        return loss, slope.numpy() + penalty * weights

    def solve(self, penalty, gap=1e-3, start=None, max_steps=1000):
        """Minimises f by preconditioned L-BFGS until the certificate is below `gap`.

        Args:
            penalty: lambda > 0.
            gap: the bound on f(W) - min f to reach, in nats.
            start: a `Solution` of this problem to start from, e.g. for a larger penalty.
            max_steps: the most evaluations to make.

        Returns:
            A `Solution`; its `converged` says whether the gap was reached.
        """
        weights = np.zeros((self.features, len(self._present)))
        if start is not None:
            finite = np.where(np.isfinite(self._scale), self._scale, 0.0)
            weights = start.weights[:, self._present] * finite[:, np.newaxis]

        def certificate(gradient):
            return _dot(gradient, gradient) / (2 * penalty)

        weights, loss, gradient, steps = minimize(
            lambda w: self.evaluate(w, penalty),
            weights,
            self._preconditioner(penalty),
            lambda gradient: certificate(gradient) <= gap,
            max_steps,
        )
        bound = certificate(gradient)
        raw = weights / self._scale[:, np.newaxis]
        # Not a product of matrices, which would start BLAS' threads.
        bias = self._bias.numpy() - (self._mean[:, np.newaxis] * raw).sum(0)
        dtype = self._dtype.as_numpy_dtype
        whole = np.zeros((self.features, self._num_classes), dtype)
        whole[:, self._present] = raw
        whole_bias = np.full(self._num_classes, bias.min() + ABSENT, dtype)
        whole_bias[self._present] = bias
        return Solution(whole, whole_bias, penalty, loss, bound, bound <= gap, steps)

    def _preconditioner(self, penalty):
        """Returns a function that applies the inverse of X'X/(KN) + lambda I.

        That is the Hessian at W = 0 for balanced classes, but for the constant that all classes
        share, which the gradient has no part in.
        """
        classes = len(self._present)
        if self.features > PRECONDITION_UP_TO:
            # The diagonal of the same matrix: standardised features have variance 1.
            return lambda v: v / (1 / classes + penalty)
        if self._gram is None:
            self._gram = tf.zeros([self.features] * 2, self._dtype)
            for block in (
                [b for _, b in self._standardised()] if self._kept is None else [self._kept]
            ):
                self._gram += tf.matmul(block, block, transpose_a=True)
            self._gram /= classes * self.examples
        factor = tf.linalg.cholesky(self._gram + penalty * tf.eye(self.features, dtype=self._dtype))

        def apply(v):
            v = tf.constant(v, self._dtype)
            return tf.linalg.cholesky_solve(factor, v).numpy().astype(np.float64)

        return apply


def _moments(blocks):
    """The mean and standard deviation of each feature, float64, in one pass."""
    total = square = shift = 0.0
    count = 0
    for _, block in blocks():
        if not count:
            # Sums of squares around a typical value don't cancel.
            shift = block[:256].mean(0, dtype=np.float64)
        centred = block - shift.astype(block.dtype)
        total = total + centred.sum(0, dtype=np.float64)
        square = square + np.einsum("nd,nd->d", centred, centred, dtype=np.float64)
        count += len(block)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    # A feature that never changes says nothing: an infinite scale leaves it out.
    constant = deviation <= 1e-6 * np.abs(mean + shift)
    return mean + shift, np.where(constant, np.inf, deviation)


@tf.function(reduce_retracing=True)
def _evaluate(features, weights, labels, frequency, bias):
    """The loss (float64), its gradient without the penalty (float64), and the bias."""
    loss, residual, bias = _eliminate_bias(features @ weights, labels, frequency, bias)
    return loss, _product(features, residual), bias


def _product(features, residual):
    return tf.cast(tf.matmul(features, residual, transpose_a=True), tf.float64)


@tf.function(reduce_retracing=True)
def _eliminate_bias(logits, labels, frequency, bias):
    """Solves for the bias by Newton's method at fixed logits x_n W.

    Returns:
        The mean cross-entropy (float64), the residual (P - Y)/N (N, K) and the bias (K,).
    """
    dtype = logits.dtype
    count = tf.cast(tf.shape(logits)[0], dtype)
    # A slope s leaves the loss about K s^2 / 2 above its minimum over the bias.
    tolerance = 1e-5 if dtype == tf.float32 else 1e-10

    def slope(bias):
        p = tf.nn.softmax(logits + bias)
        return p, tf.reduce_mean(p, 0) - frequency

    def newton(bias, p, slope_):
        mean = slope_ + frequency
        # All biases up by one constant changes nothing; adding 1 everywhere pins that down.
        hessian = tf.linalg.diag(mean + tolerance) - tf.matmul(p, p, transpose_a=True) / count + 1
        step = tf.linalg.solve(hessian, slope_[:, tf.newaxis])[:, 0]
        # Newton's method on a log-sum-exp may overshoot from far away; a bounded step can't.
        bias -= step / tf.maximum(tf.reduce_max(tf.abs(step)) / 2, 1)
        return bias, *slope(bias)

    bias, _, _ = tf.while_loop(
        lambda bias, p, slope_: tf.reduce_max(tf.abs(slope_)) > tolerance,
        newton,
        (bias, *slope(bias)),
        maximum_iterations=20,
    )
    # One kernel gives both the losses and their gradients P - Y.
    losses, residual = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=logits + bias, labels=labels
    )
    return tf.reduce_mean(tf.cast(losses, tf.float64)), residual / count, bias


def minimize(evaluate, start, precondition, done, max_steps):
    """Preconditioned L-BFGS with a backtracking line search, for a smooth convex function.

    Args:
        evaluate: x -> (value, gradient).
        start: the first x, a float64 array (D, K).
        precondition: applies an approximate inverse Hessian.
        done: gradient -> whether to stop.
        max_steps: the most evaluations to make.

    Returns:
        x, its value, its gradient, and the number of evaluations.
    """
    x = start
    value, gradient = evaluate(x)
    preconditioned = precondition(gradient)
    steps, pairs = 1, collections.deque(maxlen=MEMORY)
    while not done(gradient) and steps < max_steps:
        direction = -_two_loop(gradient, preconditioned, pairs)
        slope = _dot(direction, gradient)
        length = 1.0
        while True:
            new_value, new_gradient = evaluate(x + length * direction)
            steps += 1
            rise = new_value - value
            # Close to the minimum values differ by no more than the rounding of their sums.
            if rise <= 1e-4 * length * slope + 1e-7 * abs(value) or steps >= max_steps:
                break
            # The minimum of the parabola through both values and the slope, within bounds.
            fraction = -slope * length / (2 * (rise - length * slope))
            length *= min(max(fraction, 0.1), 0.5)
        change, turn = length * direction, new_gradient - gradient
        new_preconditioned = precondition(new_gradient)
        inner = _dot(change, turn)
        if inner > 0:
            pairs.append(_Pair(change, turn, new_preconditioned - preconditioned, inner))
        x, value = x + change, new_value
        gradient, preconditioned = new_gradient, new_preconditioned
    return x, value, gradient, steps


class _Pair(NamedTuple):
    """One step of L-BFGS: the change of x and of the gradient, and their inner product."""

    change: np.ndarray
    turn: np.ndarray
    preconditioned_turn: np.ndarray
    inner: float


def _two_loop(gradient, preconditioned, pairs):
    """L-BFGS' product of the inverse Hessian with the gradient (Nocedal and Wright, 7.4).

    The preconditioner is linear, so that what it makes of the first loop's result is put together
    from what it made of each gradient: one application a step in place of two.
    """
    q, r, alphas = gradient, preconditioned, []
    for pair in reversed(pairs):
        alphas.append(_dot(pair.change, q) / pair.inner)
        q = q - alphas[-1] * pair.turn
        r = r - alphas[-1] * pair.preconditioned_turn
    if pairs:
        r = r * (pairs[-1].inner / _dot(pairs[-1].turn, pairs[-1].preconditioned_turn))
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - _dot(pair.turn, r) / pair.inner) * pair.change
    return r


def _dot(a, b):
    return float((a * b).sum())
