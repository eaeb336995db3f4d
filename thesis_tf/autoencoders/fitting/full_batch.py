"""Full-batch training by quasi-Newton methods, in float64 (thesis, 3.3.4)."""

import dataclasses

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf
import tensorflow_probability as tfp

from thesis_tf._core import arrays, checks
from thesis_tf._keras.objective import in_float64
from thesis_tf._keras.parameter_vector import Layout, select


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a minimisation ended.

    Attributes:
        loss: the mean loss of an example at the end.
        converged: whether the method says that it has arrived.
        iterations: how many there were.
        evaluations: of loss and gradient.
        message: why it ended.
        losses: (iterations,) the loss after each; of "tfp_lbfgs" the last one alone.
    """

    loss: float
    converged: bool
    iterations: int
    evaluations: int
    message: str
    losses: tuple


def fit_full_batch(
    model,
    criterion,
    x,
    target=None,
    *,
    method="lbfgs",
    max_iterations=200,
    tolerance=1e-9,
    memory=20,
    batch_size=8192,
    seed=(0, 0),
    callback=None,
):
    """Minimises the mean of a criterion over all examples, and leaves the weights in the model.

    The criterion's randomness is drawn once, by `seed`: "the same corruption sampled once and for
    all" (3.3.4), since a quasi-Newton method needs a loss that stays the same. The loss and its
    gradient are computed in float64 whatever the model's own precision is, in batches whose
    gradients are added up on the device.

    Args:
        model: a built Keras model, any dtype; what is trainable in it is trained.
        criterion: `DenoisingLoss`, `ContractiveLoss`, `ReconstructionContractiveLoss`, or a
            function called as they are.
        x: (n, ...) inputs.
        target: (n, ...), what to reconstruct; None is `x`.
        method: "lbfgs" (scipy's L-BFGS-B), "bfgs" (scipy's BFGS, whose inverse Hessian is a dense
            matrix of all parameters and takes minutes an iteration beyond some thousands), or
            "tfp_lbfgs" (`tfp.optimizer.lbfgs_minimize`, all of it on the device).
        max_iterations: at most so many.
        tolerance: on the largest component of the gradient, in units of the loss at the start.
        memory: pairs of vectors that L-BFGS keeps.
        batch_size: at most so many examples have their gradient computed at once.
        seed: an integer or a pair of them.
        callback: a function of (iteration, loss), called after each iteration of scipy's methods
            and after the last of "tfp_lbfgs".

    Returns:
        `Fit`.

    Raises:
        ValueError: an unknown method, data that aren't finite, a loss that isn't at the start, or a
            criterion that goes over steps (walkback, `DecreasingNoise`).
        TypeError: data of no floating dtype.
    """
    checks.one_of("`method`", method, METHODS)
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    why = getattr(criterion, "needs_steps", None)
    if why is not None:
        advice = "Train it by `Trainer`."
        raise checks.invalid("`criterion`", "a fixed function of the weights", why, advice)
    variables = select(model)
    objective = _Loss(model, variables, criterion, x, target, batch_size, seed)
    start = objective.layout.pack([tf.cast(v.value, tf.float64) for v in variables])
    loss, _ = objective(start)
    if not np.isfinite(loss.numpy()):
        raise checks.invalid(
            "The loss", "finite at the start", loss.numpy(), "Look at the initial weights."
        )
    scale = max(abs(loss.numpy()), np.finfo(float).tiny)
    settings = (max_iterations, tolerance * scale, memory, callback)
    best, fit = METHODS[method](objective, start, *settings)
    for variable, value in zip(variables, objective.layout.unpack(best), strict=True):
        variable.assign(tf.cast(value, variable.dtype))
    return fit


class _Loss:
    """Mean loss and gradient as a compiled function of one flat float64 vector."""

    def __init__(self, model, variables, criterion, x, target, batch_size, seed):
        self._model, self._variables, self._criterion = model, variables, criterion
        x = arrays.checked_points("`x`", x)
        target = x if target is None else arrays.checked_points("`target`", target, like=x)
        self._seed = arrays.checked_seed(seed)
        self._count = len(x)
        batches = -(-self._count // checks.positive_integer("`batch_size`", batch_size))
        # Batches of one static shape, as even as can be; what the last lacks counts as nothing.
        self._size = -(-self._count // batches)
        rows = np.arange(batches * self._size) % self._count
        self._x, self._target = (tf.gather(tf.cast(a, tf.float64), rows) for a in (x, target))
        self.layout = Layout([tf.zeros(v.shape, tf.float64) for v in variables])
        trained = {id(v) for v in variables}
        self._others = [v for v in model.variables if id(v) not in trained]
        # Of one traced function, which tfp may call in a graph of its own.
        self.compiled = tf.function(self._add_up, autograph=False)
        self.evaluations = 0

    def __call__(self, vector):
        """Returns the loss and its gradient (parameters,) at a vector (parameters,)."""
        self.evaluations += 1
        return self.compiled(vector)

    def _add_up(self, vector):
        def add(first, loss, gradient):
            more, slope = self._of_batch(vector, first)
            return first + self._size, loss + more, gradient + slope

        _, loss, gradient = tf.while_loop(
            lambda first, *_: first < len(self._x),
            add,
            (0, tf.zeros((), tf.float64), tf.zeros_like(vector)),
        )
        return loss / self._count, gradient / self._count

    def _of_batch(self, vector, first):
        x, target = (
            tf.ensure_shape(a[first : first + self._size], (self._size, *a.shape[1:]))
            for a in (self._x, self._target)
        )
        seed = tf.random.experimental.stateless_fold_in(self._seed, first)
        counts = first + tf.range(self._size) < self._count
        with tf.GradientTape() as tape, in_float64(self._model):
            tape.watch(vector)
            with keras.StatelessScope() as scope:
                values = self.layout.unpack(vector)
                for variable, value in zip(self._variables, values, strict=True):
                    scope.add_update((variable, value))
                for variable in self._others:
                    if tf.as_dtype(variable.dtype).is_floating:
                        scope.add_update((variable, tf.cast(variable.value, tf.float64)))
                losses = self._criterion(self._model, x, target, seed, 0)
            total = tf.reduce_sum(tf.where(counts, losses, tf.zeros_like(losses)))
        gradient = tape.gradient(total, vector)
        if gradient is None:
            raise checks.invalid(
                "`criterion`",
                "a function of the model's reconstructions",
                "one that no trainable parameter has an influence on",
            )
        return total, gradient


def _scipy(name, options):
    def minimise(objective, start, max_iterations, tolerance, memory, callback):
        losses = []

        def after(intermediate_result):
            losses.append(float(intermediate_result.fun))
            if callback is not None:
                callback(len(losses), losses[-1])

        found = scipy.optimize.minimize(
            lambda vector: tuple(a.numpy() for a in objective(tf.constant(vector))),
            start.numpy(),
            jac=True,
            method=name,
            callback=after,
            options={"maxiter": max_iterations, "gtol": tolerance, **options(memory)},
        )
        message = str(found.message)
        return tf.constant(found.x), Fit(
            float(found.fun), bool(found.success), int(found.nit), int(found.nfev), message,
            tuple(losses),
        )  # fmt: skip

    return minimise


def _tfp_lbfgs(objective, start, max_iterations, tolerance, memory, callback):
    @tf.function(autograph=False)
    def minimise(start):
        return tfp.optimizer.lbfgs_minimize(
            objective.compiled,
            start,
            num_correction_pairs=memory,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )

    found = minimise(start)
    loss = float(found.objective_value)
    failed = bool(found.failed)
    converged = bool(found.converged)
    message = "the line search failed" if failed else "converged" if converged else "iterations"
    iterations, evaluations = int(found.num_iterations), int(found.num_objective_evaluations)
    if callback is not None:
        callback(iterations, loss)
    return found.position, Fit(loss, converged, iterations, evaluations, message, (loss,))


METHODS = {
    "lbfgs": _scipy("L-BFGS-B", lambda memory: {"maxcor": memory, "ftol": 0.0, "maxls": 30}),
    "bfgs": _scipy("BFGS", lambda memory: {}),
    "tfp_lbfgs": _tfp_lbfgs,
}
