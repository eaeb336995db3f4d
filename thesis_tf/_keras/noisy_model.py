"""Keras models whose loss has noise that depends only on the seed and the training step."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from thesis_tf._core import (
    checks,
    max_pooling,  # noqa: F401  (mends second derivatives, which some losses have)
)


class NoisyModel(keras.Model):
    """A Keras model with a built-in loss.

    Training that is resumed from a checkpoint of all variables has the same noise as without an
    interruption. Validation uses the same noise at every epoch, that of the last possible step. The
    model may be fitted under any `tf.distribute` strategy; replicas draw independently.

    As in Keras' own `fit` and `evaluate`, the regularizers of trainable variables are added to the
    mean loss of a batch, and so are activity regularizers and `add_loss` of the layers that a
    subclass counts by `count_added`.

    A subclass implements `example_losses`.

    Args:
        seed: an integer.
    """

    # What examples must be, a phrase for the error about those for which `are_valid` is false.
    valid_examples = "finite"

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # What was added by layers in the batch that is computed; None if none is.
        self._counted: tuple[tf.Tensor, ...] | None = None

    def are_valid(self, x: Any, target: Any) -> tf.Tensor:
        """Returns which examples of a batch are valid, (n,) of bool: by default the finite ones."""
        return all_true([tf.math.is_finite(a) for a in (x, target) if _is_floating(a)], x)

    def count_added(self, loss: tf.Tensor) -> None:
        """Adds a scalar to the mean loss of the batch that is computed, if one is."""
        if self._counted is not None:
            self._counted = (*self._counted, loss)

    def example_losses(
        self, x: Any, target: tf.Tensor | None, seed: tf.Tensor, step: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Returns the losses (n,) of a batch.

        Args:
            x: the inputs, (n, ...).
            target: the targets that were passed to `fit`, or None.
            seed: a pair of int32, specific to this batch and replica.
            step: the training step, an int32.
            training: whether the losses are for a training step.
        """
        raise NotImplementedError

    def compile(
        self, optimizer: Any = "rmsprop", loss: None = None, metrics: None = None, **kwargs: Any
    ) -> None:
        """Like Keras' `compile`, but without a loss, since the model has a built-in loss.

        Raises:
            ValueError: a loss or metrics are given.
        """
        if loss is not None or metrics is not None:
            advice = f"{type(self).__name__} has a built-in loss."
            raise checks.invalid("`loss` and `metrics`", "left out", loss or metrics, advice)
        super().compile(optimizer, **kwargs)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns the arguments of `compile`, for a saved model; None if it isn't compiled."""
        if not self.compiled:
            return None
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model, so that `fit` can continue."""
        self.compile(keras.saving.deserialize_keras_object(config["optimizer"]))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Like Keras' `fit`.

        Raises:
            ValueError: class weights, or sample weights without targets, which Keras would ignore;
                or examples that aren't valid. A batch with such examples changes no weights; on
                devices where XLA compiles the step, its loss is NaN instead of the error.
        """
        if kwargs.get("class_weight") is not None:
            raise checks.invalid("`class_weight`", "left out", "weights of classes")
        if y is None and kwargs.get("sample_weight") is not None:
            advice = "Pass fit(x, x, sample_weight=weights)."
            raise checks.invalid("`sample_weight`", "given with targets", "no targets", advice)
        with _named_errors():
            return super().fit(x, y, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Like Keras' `evaluate`; raises ValueError for examples that aren't valid."""
        with _named_errors():
            return super().evaluate(*args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metric with the mean loss per example."""
        return [self.loss_tracker]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one optimizer step on a batch."""
        step = tf.cast(self.optimizer.iterations, tf.int32)
        with tf.GradientTape() as tape:
            losses, added = self._noisy_losses(data, step, True)
            loss = _mean_over_replicas(losses, added)
            if added is not None:
                losses = losses + added
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.loss_tracker.update_state(losses)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Computes the loss of a batch, with noise as at the end of training."""
        # Different noise for each batch, but the same at every evaluation.
        number = tf.cast(self.loss_tracker.count, tf.int32)
        losses, added = self._noisy_losses(data, tf.int32.max, False, number)
        self.loss_tracker.update_state(losses if added is None else losses + added)
        return {"loss": self.loss_tracker.result()}

    def _noisy_losses(
        self, data: Any, step: tf.Tensor, training: bool, draw: Any = 0
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the weighted losses (n,), and what is added to their mean or None."""
        x, target, weights = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self.build((None, *x.shape[1:]))  # Keras builds a model only when it calls `call`
        replica = tf.distribute.get_replica_context()
        number = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.stack([tf.cast(self.seed, tf.int32), step])
        for fold in (number, draw):
            seed = tf.random.experimental.stateless_fold_in(seed, fold)
        valid = self.are_valid(x, target)
        message = f"{_INVALID}{self.valid_examples}{_END}"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(valid), [message])]):
            # XLA leaves out assertions. There, a loss of NaN without a gradient says the same.
            x, target = (_where(valid, a) for a in (x, target))
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        if several:
            # A replica may have no examples of the last batch, which not all losses can compute.
            x = _never_empty(x)
            target = None if target is None else keras.tree.map_structure(_never_empty, target)
        self._counted = ()
        try:
            losses = self.example_losses(x, target, seed, step, training)
            counted = self._counted
        finally:
            self._counted = None
        check_losses(losses)
        if several:
            losses = losses[: tf.shape(valid)[0]]
        losses = tf.where(valid, losses, tf.constant(float("nan"), losses.dtype))
        if weights is not None:
            losses = losses * tf.cast(_of_examples(weights), losses.dtype)
        terms = [v.regularizer(v.value) for v in self.trainable_variables if v.regularizer]
        terms += counted
        added = tf.add_n([tf.cast(term, losses.dtype) for term in terms]) if terms else None
        return losses, added


def _never_empty(batch: tf.Tensor) -> tf.Tensor:
    """Returns a batch, or an example of zeros if it has none."""
    missing = tf.cast(tf.equal(tf.shape(batch)[:1], 0), tf.int32)
    return tf.concat(
        [batch, tf.zeros(tf.concat([missing, tf.shape(batch)[1:]], 0), batch.dtype)], 0
    )


def _mean_over_replicas(losses: tf.Tensor, added: tf.Tensor | None) -> tf.Tensor:
    """Returns a replica's part of the mean loss of the batch of all replicas, which are added.

    The last batch may have fewer examples on some replicas, or none.

    Args:
        losses: (n,), of the replica's examples.
        added: what is added to their mean, or None.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        mean = tf.reduce_mean(losses)
        return mean if added is None else mean + added
    examples = tf.cast(tf.size(losses), losses.dtype)
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, examples)
    return tf.reduce_sum(losses if added is None else losses + added) / total


def check_losses(losses: tf.Tensor) -> None:
    """Raises ValueError unless losses have the shape (n,): others would broadcast."""
    if losses.shape.rank != 1:
        raise checks.invalid(
            "The losses of examples",
            "of shape (n,)",
            f"shape {tuple(losses.shape)}",
            "Sum over the values of an example, not over examples.",
        )


def _of_examples(weights: tf.Tensor) -> tf.Tensor:
    """Returns sample weights (n,) or (n, 1) as (n,)."""
    if weights.shape.rank == 2 and weights.shape[1] == 1:
        return weights[:, 0]
    if weights.shape.rank != 1:
        received = f"shape {tuple(weights.shape)}"
        raise checks.invalid("`sample_weight`", "of shape (n,)", received)
    return weights


def added_losses(layer: keras.Layer) -> tf.Tensor | None:
    """Returns what the last call of a layer added to the loss, a scalar; None if nothing.

    These are activity regularizers and `add_loss` of all layers in it, without the regularizers of
    variables.
    """
    regularizers = sum(v.regularizer is not None for v in layer.trainable_variables)
    losses = layer.losses
    found = [tf.reduce_sum(loss) for loss in losses[: len(losses) - regularizers]]
    return tf.add_n([tf.cast(loss, found[0].dtype) for loss in found]) if found else None


def all_true(conditions: Any, x: Any) -> tf.Tensor:
    """Returns for which examples all conditions (n, ...) hold, (n,); all if there are none."""
    valid = tf.ones([tf.shape(x)[0]], tf.bool)
    for condition in conditions:
        valid &= tf.reduce_all(condition, axis=list(range(1, condition.shape.rank)))
    return valid


_INVALID, _END = "Examples must be ", "; some are not."


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Raises a ValueError for the assertion about examples."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if _INVALID not in str(error):
            raise
        expected = str(error).split(_INVALID)[1].split(_END)[0]
        advice = "Look at the data, and at validation data; no weights were changed by them."
        raise checks.invalid("Examples", expected, "a batch with others", advice) from None


def _is_floating(x: Any) -> bool:
    return tf.is_tensor(x) and x.dtype.is_floating


def _where(valid: tf.Tensor, x: Any) -> Any:
    """Returns x with zeros for examples that aren't valid."""
    if not _is_floating(x):
        return x
    return tf.where(tf.reshape(valid, [-1] + [1] * (x.shape.rank - 1)), x, tf.zeros_like(x))
