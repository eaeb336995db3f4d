"""Training steps on drawn examples, many per call, on one device or several."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from thesis_tf._core import checks
from thesis_tf._core.types import Structure
from thesis_tf._keras.loss.example_loss import WeightedLabels
from thesis_tf._keras.objective import Objective
from thesis_tf._keras.sharding import Replicas
from thesis_tf.gradient_norms import GradientNorms
from thesis_tf.issgd.training.examples import Examples

# Examples whose masks are counted at once.
MEASURED_AT_ONCE = 256


class Steps:
    """Steps of a compiled model on examples whose losses are scaled (section 7.3).

    Each step follows the gradient of mean_i(scale_i loss_i), or of the sum if the loss has
    `reduction="sum"`, plus the model's regularization, which is not scaled. Masked losses are
    divided by the mean number of entries of all training examples, so that the gradient is unbiased
    for any draws. Several steps run in one call, without Python between them.

    Args:
        model: a compiled Keras model; under a `tf.distribute` strategy's scope, its devices share
            each batch.
        batch_size: examples per step, over all devices.
        norms: whether to return the examples' gradient norms as well, from the same pass; on one
            device only.
        examples: the training examples, for which a model that isn't built is built.

    Raises:
        ValueError: the model is not compiled, or the batch can't be divided among the devices.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int,
        norms: bool = False,
        examples: Examples,
    ) -> None:
        if getattr(model, "optimizer", None) is None or model.loss is None:
            raise checks.invalid("`model`", "compiled with an optimizer and a loss", model.name)
        self.model, self.batch_size = model, checks.positive_integer("`batch_size`", batch_size)
        self.objective = Objective(model, None, inputs=examples.inputs_for(model))
        if self.objective.needs_divisors(*examples.take(slice(0, 1))):
            self.objective.measure_divisors(examples.batches(MEASURED_AT_ONCE))
        self._strategy = model.distribute_strategy or tf.distribute.get_strategy()
        self._replicas = Replicas(self._strategy)
        devices = self._replicas.count
        if self.batch_size % devices:
            raise checks.invalid("`batch_size`", f"a multiple of {devices} devices", batch_size)
        if norms and devices > 1:
            raise checks.invalid("The strategy", "of one device", f"{devices} devices")
        self._norms: GradientNorms | None = None
        if norms:
            # The scaled losses are those of training mode, without regularization.
            self._norms = GradientNorms(
                self.objective, regularization=False, training=True, check=False
            )
        # What the sum of a batch's losses is divided by.
        self._count = 1 if self.objective.example_loss.sums else self.batch_size
        self._unchecked = norms
        with self._strategy.scope():
            model.optimizer.build(model.trainable_variables)
        self._run = tf.function(self._steps, reduce_retracing=True)

    def __call__(
        self, x: Structure, y: Structure, scales: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Takes k steps.

        Args:
            x, y: arrays (k * batch_size, ...), or structures of them: the drawn examples, step
                after step.
            scales: float32 (k * batch_size,).

        Returns:
            (losses, squared_norms, gradient): NumPy arrays of the mean scaled loss of each step
            (k,); the squared gradient norms of the unscaled losses (k * batch_size,), or None; and
            the squared norm of the last step's gradient, NaN on several devices.

        Raises:
            ValueError: in the first call, a gradient norm is wrong, see `GradientNorms.check`.
        """
        batch = keras.tree.map_structure(tf.convert_to_tensor, (x, y, scales))
        if self._norms and self._unchecked:
            # Steps run in a graph, where norms aren't checked.
            first = keras.tree.map_structure(lambda t: t[: self.batch_size], batch[:2])
            self._unchecked = not self._norms.check(*first)
        losses, squares, gradient = self._run(*batch)
        squares = tf.reshape(squares, [-1]).numpy() if self._norms else None
        return losses.numpy(), squares, float(gradient)

    def _steps(
        self, x: Structure, y: Structure, scales: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count = tf.shape(scales)[0] // self.batch_size
        losses = tf.TensorArray(tf.float32, count)
        squares = tf.TensorArray(tf.float32, count, element_shape=(self.batch_size,))
        gradient = tf.constant(float("nan"))
        for k in tf.range(count):
            rows = tf.range(k * self.batch_size, (k + 1) * self.batch_size)
            batch = keras.tree.map_structure(lambda t: self._rows(t, rows), (x, y, scales))  # noqa: B023
            loss, square, gradient = self._strategy.run(self._step, (*batch, k == count - 1))
            losses = losses.write(k, self._replicas.total(loss))
            if self._norms:
                squares = squares.write(k, square)
            if self._replicas.count > 1:
                gradient = tf.constant(float("nan"))
        return losses.stack(), squares.stack(), gradient

    def _rows(self, tensor: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.gather(tensor, rows), (self.batch_size, *tensor.shape[1:]))

    def _step(
        self, x: Structure, y: Structure, scales: tf.Tensor, last: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, y, scales = self._replicas.own_rows((x, y, scales))
        # The loss scale of an optimizer for float16, by which it divides gradients again.
        factor = self.model.optimizer.scale_loss(1.0)
        if self._norms:
            losses, squares, gradients = self._norms.with_gradients(x, y, scales)
            losses = _widened(losses)
            loss = tf.reduce_sum(losses * tf.cast(scales, losses.dtype)) / self._count
            self._add_regularization(gradients)
            gradients = [g * tf.cast(factor, g.dtype) for g in gradients]
        else:
            squares = tf.zeros(self.batch_size)
            loss, gradients = self._gradients(x, y, scales)
        self.model.optimizer.apply_gradients(zip(gradients, self.objective.variables, strict=True))
        gradient = tf.cond(last, lambda: _squared_norm(gradients, factor), lambda: float("nan"))
        return tf.cast(loss, tf.float32), tf.cast(squares, tf.float32), gradient

    def _gradients(
        self, x: Structure, y: Structure, scales: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        model, variables = self.model, self.objective.variables
        loss_of, divisors = self.objective.example_loss, self.objective.divisors
        with tf.GradientTape() as tape:
            # As in `fit`, the model and perhaps the loss read the variables themselves.
            losses = loss_of(y, model(x, training=True), divisors)
            losses = _widened(losses)
            loss = tf.reduce_sum(losses * tf.cast(scales, losses.dtype)) / self._count
            total = loss
            for added in model.losses:
                # The sum over devices counts it once.
                total += tf.cast(added, loss.dtype) / self._replicas.count
            total = model.optimizer.scale_loss(total)
        gradients = tape.gradient(total, variables, unconnected_gradients="zero")
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    def _add_regularization(self, gradients: list[tf.Tensor]) -> None:
        values, constants = self.objective.read()
        with tf.GradientTape() as tape:
            tape.watch(values)
            added = self.objective.regularization(values, constants)
        if added is not None:
            for i, gradient in enumerate(tape.gradient(added, values)):
                if gradient is not None:
                    gradients[i] += tf.cast(gradient, gradients[i].dtype)


def _widened(losses: tf.Tensor) -> tf.Tensor:
    return losses if losses.dtype == tf.float64 else tf.cast(losses, tf.float32)


def _squared_norm(gradients: Sequence[tf.Tensor], factor: tf.Tensor) -> tf.Tensor:
    gradients = [tf.cast(g, tf.float32) / factor for g in gradients]
    return tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradients])


def classification_errors(y: Structure, outputs: Structure, *, threshold: float = 0.0) -> tf.Tensor:
    """Returns 1 for each example whose largest output is not at the label's class, else 0: (n,).

    For sequences, the fraction of their elements where that is so. Labels that are no class, such
    as an ignored -1, don't count. NaN for an example without labels, and for all if the labels are
    not whole numbers. Of several outputs, the first one counts.

    Args:
        y: labels: classes (n, ...) or (n, ..., 1), or one-hot (n, ..., classes).
        outputs: (n, ..., classes); a single output is that of class 1.
        threshold: what a single output is compared with: 0 if it is a logit, .5 if a probability.
    """
    y = y.y if isinstance(y, WeightedLabels) else y
    outputs = keras.tree.flatten(outputs)[0]
    if keras.tree.is_nested(y) and any(hasattr(part, "shape") for part in keras.tree.flatten(y)):
        y = keras.tree.flatten(y)[0]
    y = tf.convert_to_tensor(y)
    if outputs.shape[-1] == 1:
        guess = tf.cast(outputs[..., 0] > threshold, tf.int64)
    else:
        guess = tf.argmax(outputs, axis=-1)
    same_rank = y.shape.rank == outputs.shape.rank
    truth = tf.argmax(y, -1) if same_rank and y.shape[-1] > 1 else tf.reshape(y, tf.shape(guess))
    truth = tf.cast(truth, tf.int64)
    counted = (truth >= 0) & (truth < max(2, outputs.shape[-1]))
    wrong, ones = (tf.cast(each, tf.float32) for each in (counted & (truth != guess), counted))
    axes = list(range(1, wrong.shape.rank))
    errors = tf.reduce_sum(wrong, axes) / tf.reduce_sum(ones, axes)
    if y.dtype.is_floating:
        errors = tf.where(tf.reduce_all(tf.equal(y, tf.round(y))), errors, float("nan"))
    return errors
