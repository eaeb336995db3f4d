"""Trains any Keras model by a criterion of this area, through `fit`."""

import keras

from thesis_tf._core import checks
from thesis_tf._keras.noisy_model import NoisyModel


class Trainer(NoisyModel):
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
        super().__init__(seed, **kwargs)
        if not isinstance(model, keras.Model):
            received = type(model).__name__
            raise checks.invalid("`model`", "a keras.Model", received, kind=TypeError)
        if not callable(criterion):
            received = repr(criterion)
            raise checks.invalid(
                "`criterion`", "such as DenoisingLoss(0.1)", received, kind=TypeError
            )
        self.model, self.criterion = model, criterion
        self.built = True

    def call(self, x, training=False):
        """Returns r(x)."""
        return self.model(x, training=training)

    def example_losses(self, x, target, seed, step, training):
        """Returns the criterion's losses (n,) of a batch."""
        return self.criterion(
            lambda inputs: self.model(inputs, training=training), x, target, seed, step
        )
