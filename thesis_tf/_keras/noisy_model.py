"""Keras models whose loss has noise that depends only on the seed and the training step."""

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

    A subclass implements `example_losses`.

    Args:
        seed: an integer.
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.loss_tracker = keras.metrics.Mean(name="loss")

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
            ValueError: class weights, or sample weights without targets, which Keras would ignore.
        """
        if kwargs.get("class_weight") is not None:
            raise checks.invalid("`class_weight`", "left out", "weights of classes")
        if y is None and kwargs.get("sample_weight") is not None:
            advice = "Pass fit(x, x, sample_weight=weights)."
            raise checks.invalid("`sample_weight`", "given with targets", "no targets", advice)
        return super().fit(x, y, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metric with the mean loss per example."""
        return [self.loss_tracker]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one optimizer step on a batch."""
        step = tf.cast(self.optimizer.iterations, tf.int32)
        with tf.GradientTape() as tape:
            losses = self._noisy_losses(data, step, True)
            # The gradients of replicas are added, and Keras expects losses to be scaled for this.
            loss = tf.reduce_mean(losses) / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.loss_tracker.update_state(losses)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Computes the loss of a batch, with noise as at the end of training."""
        # Different noise for each batch, but the same at every evaluation.
        number = tf.cast(self.loss_tracker.count, tf.int32)
        self.loss_tracker.update_state(self._noisy_losses(data, tf.int32.max, False, number))
        return {"loss": self.loss_tracker.result()}

    def _noisy_losses(self, data: Any, step: tf.Tensor, training: bool, draw: Any = 0) -> tf.Tensor:
        x, target, weights = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self.build((None, *x.shape[1:]))  # Keras builds a model only when it calls `call`
        replica = tf.distribute.get_replica_context()
        number = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.stack([tf.cast(self.seed, tf.int32), step])
        for fold in (number, draw):
            seed = tf.random.experimental.stateless_fold_in(seed, fold)
        losses = self.example_losses(x, target, seed, step, training)
        return losses if weights is None else losses * tf.cast(weights, losses.dtype)
