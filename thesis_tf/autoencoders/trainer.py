"""Trains any Keras model by a criterion of this area, through `fit`."""

import keras
import tensorflow as tf

from thesis_tf import _checks


class Trainer(keras.Model):
    """A Keras model that `fit` trains by a criterion; the model that it wraps is what is kept.

        trainer = Trainer(model, DenoisingLoss(0.1))
        trainer.compile("adam")
        trainer.fit(x, epochs=10, batch_size=128)
        model.save("model.keras")

    Data are inputs x, or pairs (inputs, targets), where the target of an auto-encoder is its input
    and of a criterion without a corruption the clean example. Noise is a function of the seed and
    the training step alone, so training that goes on from a checkpoint of all variables sees the
    noise that it would have seen. Validation has the same noise at every epoch, as large as it
    is to become.
    It may be built and fitted under any `tf.distribute` strategy; replicas draw apart.

    Args:
        model: r, a Keras model from (n, ...) to (n, ...).
        criterion: `DenoisingLoss`, `ContractiveLoss` or `ReconstructionContractiveLoss`.
        seed: an integer.
    """

    def __init__(self, model, criterion, seed=0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(model, keras.Model):
            received = type(model).__name__
            raise _checks.invalid("`model`", "a keras.Model", received, kind=TypeError)
        if not callable(criterion):
            received = repr(criterion)
            raise _checks.invalid(
                "`criterion`", "such as DenoisingLoss(0.1)", received, kind=TypeError
            )
        self.model, self.criterion, self.seed = model, criterion, seed
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.built = True

    def compile(self, optimizer="rmsprop", loss=None, metrics=None, **kwargs):
        """As Keras' `compile`; the loss is the criterion, so there is none to give here.

        Raises:
            ValueError: a loss or metrics are given.
        """
        if loss is not None or metrics is not None:
            advice = "The criterion is the loss; evaluate the model itself for metrics."
            raise _checks.invalid("`loss` and `metrics`", "left out", loss or metrics, advice)
        super().compile(optimizer, **kwargs)

    @property
    def metrics(self):
        """The mean loss of an example."""
        return [self.loss_tracker]

    def call(self, x, training=False):
        """Returns r(x)."""
        return self.model(x, training=training)

    def train_step(self, data):
        """Takes one optimizer step on a batch."""
        step = tf.cast(self.optimizer.iterations, tf.int32)
        with tf.GradientTape() as tape:
            losses = self._example_losses(data, step, True)
            # Of replicas gradients are added up, as Keras scales losses for it.
            loss = tf.reduce_mean(losses)
            scaled = self.optimizer.scale_loss(self._per_replica(loss))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.loss_tracker.update_state(losses)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        """Takes the loss of a batch, with noise as large as at the end of training."""
        # Another noise for each batch, the same at every evaluation.
        number = tf.cast(self.loss_tracker.count, tf.int32)
        self.loss_tracker.update_state(self._example_losses(data, tf.int32.max, False, number))
        return {"loss": self.loss_tracker.result()}

    def _example_losses(self, data, step, training, draw=0):
        x, target, weights = keras.utils.unpack_x_y_sample_weight(data)
        replica = tf.distribute.get_replica_context()
        number = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.stack([tf.cast(self.seed, tf.int32), step])
        for fold in (number, draw):
            seed = tf.random.experimental.stateless_fold_in(seed, fold)
        losses = self.criterion(
            lambda inputs: self.model(inputs, training=training), x, target, seed, step
        )
        return losses if weights is None else losses * tf.cast(weights, losses.dtype)

    @staticmethod
    def _per_replica(loss):
        return loss / tf.distribute.get_strategy().num_replicas_in_sync
