"""Full-batch training by quasi-Newton methods, in float64 (thesis, 3.3.4)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

from thesis_tf._core import arrays, checks
from thesis_tf._core.types import TensorLike
from thesis_tf._keras.inputs import build, input_spec
from thesis_tf._keras.loss.last_activation import bounded_activation
from thesis_tf._keras.noisy_model import check_losses
from thesis_tf._keras.parameter_vector import VectorLayout, select
from thesis_tf._keras.tracing.float64 import in_float64
from thesis_tf._keras.tracing.traced_functions import inlined
from thesis_tf.autoencoders.criteria import Criterion, check_activation
from thesis_tf.reporting.results import TabularResult
from thesis_tf.reporting.tables import Cell

# Called with the number of an iteration, from 1, and the loss after it.
IterationCallback: TypeAlias = Callable[[int, float], None]


@dataclasses.dataclass(frozen=True)
class Fit(TabularResult):
    """The result of a minimization.

    Attributes:
        loss: the final loss, the mean over the examples.
        converged: whether the gradient is below the tolerance.
        iterations: the number of iterations.
        evaluations: the number of evaluations of the loss and its gradient.
        message: why the method stopped.
        losses: (iterations,) the loss after each iteration.
    """

    loss: float
    converged: bool
    iterations: int
    evaluations: int
    message: str
    losses: tuple[float, ...] = dataclasses.field(repr=False)

    def warnings(self) -> list[str]:
        """Returns a sentence if the fit has not converged; an empty list otherwise."""
        if self.converged:
            return []
        why = self.message.rstrip(".")
        return [f"The fit has not converged in {self.iterations:,} iterations: {why}."]

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
        return ("iteration", "loss"), list(enumerate(self.losses, start=1))

    def summary(self) -> dict[str, Any]:
        """Returns all fields except the losses as a plain dict."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name != "losses"}


def fit_full_batch(
    model: keras.Model,
    criterion: Criterion,
    x: TensorLike,
    *,
    target: TensorLike | None = None,
    method: Literal["lbfgs", "bfgs"] = "lbfgs",
    max_iterations: int = 200,
    tol: float = 1e-9,
    num_correction_pairs: int = 20,
    batch_size: int = 8192,
    seed: int = 0,
    callback: IterationCallback | None = None,
) -> Fit:
    """Minimizes the mean of a criterion over all examples, and assigns the parameters to the model.

    The criterion's random numbers are drawn once, with `seed` (3.3.4), since a quasi-Newton method
    needs a fixed loss. The loss and its gradient are computed in float64 for any precision of the
    model, in batches whose gradients are added on the device. Regularizers of the trainable
    variables are part of the loss, as in Keras' `fit`.

    Args:
        model: a Keras model of any dtype, whose trainable variables are fitted.
        criterion: `DenoisingLoss`, `ContractiveLoss`, `ReconstructionContractiveLoss`, or a
            function with the same arguments.
        x: (n, ...) inputs.
        target: (n, ...), the target of the reconstruction; None is `x`.
        method: "lbfgs" (SciPy's L-BFGS-B), or "bfgs" (SciPy's BFGS, whose inverse Hessian is a
            dense matrix; with more than a few thousand parameters an iteration takes minutes).
        max_iterations: the maximum number of iterations.
        tol: the tolerance of the gradient's largest component, in units of the initial loss.
        num_correction_pairs: pairs of vectors that L-BFGS remembers.
        batch_size: the number of examples, at most, whose gradient is computed at once.
        seed: an integer >= 0.
        callback: called as `callback(iteration, loss)` after each iteration.

    Returns:
        `Fit`.

    Raises:
        ValueError: the method is unknown, data or the initial loss aren't finite, or the criterion
            depends on training steps (walkback, `DecreasingNoise`); examples are outside [0, 1] for
            a cross-entropy; or layers add losses (`add_loss`, activity regularizers).
        TypeError: data don't have a floating dtype.
    """
    checks.one_of("`method`", method, _METHODS)
    max_iterations = checks.positive_integer("`max_iterations`", max_iterations)
    why = getattr(criterion, "needs_steps", None)
    if why is not None:
        advice = "Train it by `CriterionModel`."
        raise checks.invalid("`criterion`", "a fixed function of the parameters", why, advice)
    if not model.built:
        build(model, input_spec(model, arrays.checked_points("`x`", x, at_least=1)))
    check_activation(getattr(criterion, "distance", ""), bounded_activation(model))
    variables = select(model)
    objective = _Loss(model, variables, criterion, x, target, batch_size, seed)
    initial = objective.layout.pack([tf.cast(v.value, tf.float64) for v in variables])
    loss, _ = objective(initial)
    if not np.isfinite(loss.numpy()):
        raise checks.invalid(
            "The initial loss", "finite", loss.numpy(), "Look at the initial parameters."
        )
    scale = max(abs(loss.numpy()), np.finfo(float).tiny)
    options = {"maxiter": max_iterations, "gtol": tol * scale}
    if method == "lbfgs":
        pairs = checks.positive_integer("`num_correction_pairs`", num_correction_pairs)
        options |= {"maxcor": pairs, "ftol": 0.0, "maxls": 30}
    best, fit = _minimize(objective, initial, _METHODS[method], options, callback)
    for variable, value in zip(variables, objective.layout.unpack(best), strict=True):
        variable.assign(tf.cast(value, variable.dtype))
    return fit


class _Loss:
    """Mean loss and gradient as a compiled function of one flat float64 vector."""

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        criterion: Criterion,
        x: TensorLike,
        target: TensorLike | None,
        batch_size: int,
        seed: int,
    ) -> None:
        self._model, self._variables, self._criterion = model, variables, criterion
        x = arrays.checked_points("`x`", x, at_least=1)
        target = x if target is None else arrays.checked_points("`target`", target, like=x)
        if str(getattr(criterion, "distance", "")).startswith("bernoulli"):
            low, high = float(tf.reduce_min(target)), float(tf.reduce_max(target))
            if low < 0 or high > 1:
                received = f"values in [{low:g}, {high:g}]"
                raise checks.invalid("The target of a cross-entropy", "in [0, 1]", received)
        self._seed = arrays.stateless_seed(seed)
        self._count = len(x)
        batches = -(-self._count // checks.positive_integer("`batch_size`", batch_size))
        # Batches of one static shape, as even as possible; padding of the last batch is ignored.
        self._size = -(-self._count // batches)
        rows = np.arange(batches * self._size) % self._count
        self._x, self._target = (tf.gather(tf.cast(a, tf.float64), rows) for a in (x, target))
        self.layout = VectorLayout([tf.zeros(v.shape, tf.float64) for v in variables])
        trained = {id(v) for v in variables}
        self._others = [v for v in model.variables if id(v) not in trained]
        self._compiled = tf.function(self._add_up, autograph=False)

    def __call__(self, vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss and its gradient (parameters,) at a vector (parameters,)."""
        return self._compiled(vector)

    def _add_up(self, vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def add(
            first: tf.Tensor, loss: tf.Tensor, gradient: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            batch_loss, batch_gradient = self._of_batch(vector, first)
            return first + self._size, loss + batch_loss, gradient + batch_gradient

        _, loss, gradient = tf.while_loop(
            lambda first, *_: first < len(self._x),
            add,
            (0, tf.zeros((), tf.float64), tf.zeros_like(vector)),
        )
        loss, gradient = loss / self._count, gradient / self._count
        penalized = [(i, v) for i, v in enumerate(self._variables) if v.regularizer is not None]
        if not penalized:
            return loss, gradient
        with tf.GradientTape() as tape:
            tape.watch(vector)
            values = self.layout.unpack(vector)
            penalty = tf.add_n([v.regularizer(values[i]) for i, v in penalized])
        return loss + penalty, gradient + tape.gradient(penalty, vector)

    def _of_batch(self, vector: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, target = (
            tf.ensure_shape(a[first : first + self._size], (self._size, *a.shape[1:]))
            for a in (self._x, self._target)
        )
        seed = tf.random.experimental.stateless_fold_in(self._seed, first)
        counts = first + tf.range(self._size) < self._count
        with tf.GradientTape() as tape, in_float64(self._model):
            tape.watch(vector)
            with inlined(), keras.StatelessScope(collect_losses=True) as scope:
                values = self.layout.unpack(vector)
                for variable, value in zip(self._variables, values, strict=True):
                    scope.add_update((variable, value))
                for variable in self._others:
                    if tf.as_dtype(variable.dtype).is_floating:
                        scope.add_update((variable, tf.cast(variable.value, tf.float64)))
                losses = self._criterion(self._model, x, target, seed=seed, step=0)
            check_losses(losses)
            if scope.losses:
                raise checks.invalid(
                    "`model`",
                    "without `add_loss` and activity regularizers, no means over examples",
                    f"{len(scope.losses)} of their losses",
                    "Train it by `CriterionModel`.",
                )
            total = tf.reduce_sum(tf.where(counts, losses, tf.zeros_like(losses)))
        gradient = tape.gradient(total, vector)
        if gradient is None:
            raise checks.invalid(
                "`criterion`",
                "a function of the model's reconstructions",
                "one that depends on no trainable parameter",
            )
        return total, gradient


def _minimize(
    objective: _Loss,
    initial: tf.Tensor,
    method: str,
    options: dict[str, float],
    callback: IterationCallback | None,
) -> tuple[tf.Tensor, Fit]:
    losses: list[float] = []

    def after(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        losses.append(float(intermediate_result.fun))
        if callback is not None:
            callback(len(losses), losses[-1])

    found = scipy.optimize.minimize(
        lambda vector: tuple(value.numpy() for value in objective(tf.constant(vector))),
        initial.numpy(),
        jac=True,
        method=method,
        callback=after,
        options=options,
    )
    fit = Fit(
        loss=float(found.fun),
        converged=bool(found.success),
        iterations=int(found.nit),
        evaluations=int(found.nfev),
        message=str(found.message),
        losses=tuple(losses),
    )
    return tf.constant(found.x), fit


_METHODS = {"lbfgs": "L-BFGS-B", "bfgs": "BFGS"}
